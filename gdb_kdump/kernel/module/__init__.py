"""Modules, and the source behind an address."""
