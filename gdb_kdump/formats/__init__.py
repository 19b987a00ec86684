"""Bytes that others defined, decoded or written."""
