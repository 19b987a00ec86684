"""The kernel's containers and locks."""
