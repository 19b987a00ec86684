"""What the user sources: `source gdb_kdump/init.py` inside GDB.  It registers commands and looks nothing up."""

import sys
from pathlib import Path

import gdb

_ROOT = str(Path(__file__).resolve().parent.parent)


def _check_dependencies() -> None:
    try:
        __import__("elftools")
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise gdb.GdbError(
            f"gdb-kdump: GDB's Python {version} lacks pyelftools: run `apt install python3-pyelftools`"
        ) from None


def _register() -> None:
    # A sourced file runs as __main__: the package is imported by its own name, once, however often this is sourced.
    if _ROOT not in sys.path:
        sys.path.insert(0, _ROOT)
    from gdb_kdump.commands import register

    register()


_check_dependencies()
_register()
