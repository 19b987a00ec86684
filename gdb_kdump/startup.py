"""What is needed before the commands can be registered: features of GDB, packages of its Python."""

from __future__ import annotations

import importlib.util
import sys

import gdb

from gdb_kdump.installing import FEATURES, PACKAGES, how_to_install


def start() -> None:
    """Register the commands; raises gdb.GdbError with one sentence where something is missing."""
    lacking = [f"gdb.{name}" for name in FEATURES if not hasattr(gdb, name)]
    if lacking:
        raise gdb.GdbError(
            f"gdb-kdump: GDB {gdb.VERSION} has no {' and no '.join(lacking)}: use a newer one; GDB 12 brought them"
        )
    packages = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if packages:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise gdb.GdbError(
            f"gdb-kdump: GDB's Python {version} lacks {' and '.join(packages)}: {how_to_install(packages)}"
        )
    from gdb_kdump.commands import register

    register()
