"""What the two ends of the registry's HTTP share."""

MODIFIED = "X-Pilotlight-Modified"
"""An object's time of change, Unix seconds with a fraction, which Last-Modified cannot say."""
