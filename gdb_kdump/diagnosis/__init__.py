"""Reads and judges: the only layer that may do both."""
