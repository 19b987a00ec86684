"""Modules, and the source lines of an address."""
