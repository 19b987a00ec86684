"""gdb-kdump: open Linux kdump vmcores in stock GDB, from the panic to the corrupted sk_buff."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout the commands stand beside the package, at the top level; installed, they are inside it.
if not (Path(__file__).parent / "commands").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))
