"""Files that others read."""
