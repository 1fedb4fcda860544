"""How many replicas a revision should have: one pure function, with the reason."""
