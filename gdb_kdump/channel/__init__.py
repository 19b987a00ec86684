"""What is said between GDB and the dump server."""
