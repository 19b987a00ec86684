"""The program `gdb-kdump`: finds a GDB that will do and has it open a dump.  It runs outside of GDB, and needs none."""
