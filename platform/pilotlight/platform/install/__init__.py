"""Putting the platform into a cluster."""
