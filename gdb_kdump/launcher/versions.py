"""--version: of gdb-kdump, GDB, its Python, and libkdumpfile's binding."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from gdb_kdump import __version__
from gdb_kdump.channel.spawn import interpreters
from gdb_kdump.installing import LIBRARY, how_to_install
from gdb_kdump.launcher.debuggers import NoDebugger, find_debugger

_LIBRARY = """
import importlib.metadata, kdumpfile
for name in ("pykdumpfile", "libkdumpfile"):
    try:
        print(name, importlib.metadata.version(name))
        break
    except importlib.metadata.PackageNotFoundError:
        pass
else:
    print("libkdumpfile, of a version that it does not say")
"""


def versions() -> Iterator[str]:
    """A line for each."""
    yield f"gdb-kdump {__version__}"
    try:
        debugger = find_debugger()
        yield f"GDB {debugger.version} ({debugger.path}), Python {debugger.python}"
    except NoDebugger as refusal:
        yield f"no GDB: {refusal}"
    yield _library()


def _library() -> str:
    for interpreter in interpreters():
        try:
            run = subprocess.run([interpreter, "-I", "-c", _LIBRARY], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if run.returncode == 0:
            return f"{run.stdout.strip()} ({interpreter})"
    return f"no libkdumpfile: {how_to_install([LIBRARY])}"
