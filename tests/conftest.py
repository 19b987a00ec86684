"""Loads our own fixtures; see pytest_gdb_fixtures."""

import pytest

pytest.register_assert_rewrite("kernel_expectations")

pytest_plugins = ["pytest_gdb_fixtures"]
