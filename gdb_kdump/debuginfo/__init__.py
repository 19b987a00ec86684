"""The vmlinux, and GDB's view of it."""
