"""Scaling policies to compare: the production one, what others run, and bounds that nobody can beat."""
