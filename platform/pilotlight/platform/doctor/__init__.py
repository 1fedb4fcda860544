"""Whether a cluster has what the platform needs, and what to do where it has not."""
