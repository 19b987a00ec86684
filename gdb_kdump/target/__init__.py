"""The dump as GDB's target."""
