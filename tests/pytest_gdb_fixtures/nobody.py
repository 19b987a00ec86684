"""Another user, for what root may do and others may not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gdb_fixtures.lab import ROOT
from pytest_gdb_fixtures.process import INIT


def as_nobody(folder: Path) -> dict[str, Any]:
    """How to run a gdb as somebody who may read nothing: root runs it as nobody, everybody else as themselves.

    Everything below `folder`, a folder in /tmp, can be found by nobody, and a copy of the plugin is there: the checkout
    may be in /root.
    """
    if os.geteuid() != 0:
        return {}
    home = folder / "home"
    home.mkdir()
    home.chmod(0o777)
    for part in ("gdb_kdump", "commands"):
        shutil.copytree(ROOT / part, folder / "checkout" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for parent in (folder, *folder.parents):
        if parent.owner() == "root" and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    wrapper: Sequence[str] = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    init = folder / "checkout" / INIT.relative_to(ROOT)
    return {"wrapper": wrapper, "env": {"HOME": str(home), "XDG_CACHE_HOME": None}, "init": init}
