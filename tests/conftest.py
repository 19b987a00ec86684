"""Loads our own fixtures; see pytest_gdb_fixtures."""

pytest_plugins = ["pytest_gdb_fixtures"]
