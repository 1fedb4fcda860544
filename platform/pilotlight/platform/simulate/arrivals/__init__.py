"""Where simulated requests come from: public traces, files of one's own, and synthetic processes."""
