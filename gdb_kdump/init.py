"""What the user sources: `source gdb_kdump/init.py` inside GDB.  It registers commands and looks nothing up.

Every Python that a GDB may have, 2.7 too, must be able to read this file: it says what is needed.
"""

import os
import sys

import gdb


def _say(kind, error, trace, hook=sys.excepthook):  # type: ignore[no-untyped-def]
    """For a GDB that prints a traceback of what ends a sourced file (13): its sentence is enough."""
    sys.excepthook = hook
    if issubclass(kind, gdb.GdbError):
        gdb.write(str(error) + "\n", gdb.STDERR)
    else:
        hook(kind, error, trace)


_hook = sys.excepthook
sys.excepthook = _say
if sys.version_info < (3, 9):  # noqa: UP036
    raise gdb.GdbError(
        "gdb-kdump: this GDB has Python %d.%d and 3.9 is the oldest that will do: use a GDB that is built with it, "  # noqa: UP031
        "such as that of Debian 12 or RHEL 9" % sys.version_info[:2]
    )

# Where this file is; __file__ is the outer one's where a Python file sources it.
_PATH = _say.__code__.co_filename
if not os.path.exists(_PATH):
    # A name without a folder, which GDB has found where `directory` says.
    _TRIED = [os.path.join(folder, _PATH) for folder in str(gdb.parameter("directories")).split(os.pathsep)]
    _PATH = ([path for path in _TRIED if os.path.exists(path)] + [_PATH])[0]

# A sourced file runs as __main__: the package is imported by its own name, once, however often this is sourced.
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(_PATH)))
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from gdb_kdump import startup  # noqa: E402

startup.start()
sys.excepthook = _hook
