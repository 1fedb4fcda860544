"""Replaying arrivals against scaling policies, the production policy among them, without a platform."""
