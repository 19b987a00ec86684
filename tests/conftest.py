"""Loads our own fixtures; see pytest_gdb_fixtures."""

import pytest

pytest.register_assert_rewrite("kernel_expectations")

pytest_plugins = ["pytest_gdb_fixtures"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: at the end one processor would do it alone."""
    items.sort(key=lambda item: item.path.name != "test_robustness.py")
