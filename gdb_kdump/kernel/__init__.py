"""Readers of kernel structures: one file per subject, records of ints and bytes out, nothing printed."""
