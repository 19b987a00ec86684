"""The newest dump below a folder: /var/crash, where distributions put them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from gdb_kdump.errors import UsageError
from gdb_kdump.formats.signatures import looks_like_dump
from gdb_kdump.launcher.asking import ask, can_ask, megabytes

CRASHES = Path("/var/crash")
_DEPTH = 2  # folders: HOST/DATE/vmcore


def choose_newest(folder: Path, yes: bool) -> Path:
    """The newest dump below a folder, if the user wants it; raises UsageError."""
    dumps = sorted(_dumps(folder), reverse=True)
    if not dumps:
        reason = "" if os.access(folder, os.R_OK | os.X_OK) or not folder.exists() else ": it may not be read"
        raise UsageError(f"no dump is named, and there is none in {folder}{reason}: gdb-kdump VMCORE [VMLINUX]")
    written, newest = dumps[0]
    if yes:
        return newest
    if not can_ask():
        raise UsageError(f"no dump is named: --yes takes the newest one in {folder}, {newest}")
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
    if not ask(f"The newest dump in {folder} is {newest}, of {day}, {megabytes(newest.stat().st_size)}. Open it?"):
        raise UsageError("name the dump: gdb-kdump VMCORE [VMLINUX]")
    return newest


def _dumps(folder: Path) -> Iterator[tuple[float, Path]]:
    """The dumps below a folder, each with when it was last written; those that cannot be read are passed over."""
    for depth in range(_DEPTH + 1):
        for path in folder.glob("/".join(["*"] * (depth + 1))):
            if looks_like_dump(path):
                yield path.stat().st_mtime, path
