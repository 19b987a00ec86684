"""Find a GDB that will do: $GDB, gdb, gdb-multiarch; the others say what they lack."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gdb_kdump.errors import KdumpError, words_of
from gdb_kdump.installing import FEATURES, PACKAGES, how_to_install

_NAMES = ("gdb", "gdb-multiarch")
_SECONDS = 60
_OPTIONAL = ("jinja2",)  # it is lent where it is here; the command that wants it says what it lacks
_OLDEST = (3, 9)

# Every Python that a GDB may have must be able to read this.
_PROBE = """
import json, sys
sys.path.extend({lent!r})
lacking = []
for module in {modules!r}:
    try:
        __import__(module)
    except (ImportError, SyntaxError):
        lacking.append(module)
import gdb
print("@" + json.dumps([gdb.VERSION, list(sys.version_info[:3]), lacking,
                        [name for name in {features!r} if not hasattr(gdb, name)]]))
"""


class NoDebugger(KdumpError):
    """No GDB here will do; says of each why."""


@dataclass(frozen=True)
class Debugger:
    """A GDB that will do, and the folders that its Python is lent."""

    path: str
    version: str
    python: str
    lent: tuple[str, ...] = ()


def find_debugger() -> Debugger:
    """The first GDB that will do; raises NoDebugger."""
    refusals = []
    for path in _candidates():
        try:
            return _probed(path)
        except NoDebugger as refusal:
            refusals.append(str(refusal))
    if not refusals:
        raise NoDebugger(f"there is no GDB here: {how_to_install(['gdb'])}, or name one in $GDB")
    raise NoDebugger("; ".join(refusals))


def _candidates() -> Iterator[str]:
    chosen = os.environ.get("GDB")
    if chosen:
        yield chosen
        return
    yield from filter(None, (shutil.which(name) for name in _NAMES))


def _probed(path: str) -> Debugger:
    """A GDB, if it will do; raises NoDebugger, with what it lacks and what to do."""
    version, python, lacking, features = _ask(path, ())
    words = f"{path} (GDB {version}, Python {python[0]}.{python[1]})"
    if tuple(python[:2]) < _OLDEST:
        raise NoDebugger(
            f"{words} has too old a Python: use a GDB that is built with 3.9 or later, such as that of Debian 12 or "
            "RHEL 9, and name it in $GDB"
        )
    if features:
        raise NoDebugger(f"{words} has no gdb.{' and no gdb.'.join(features)}: use a newer one; GDB 12 brought them")
    lent: tuple[str, ...] = ()
    if lacking:
        lent = _own_folders(lacking)
        lacking = _ask(path, lent)[2] if lent else lacking
    packages = [PACKAGES[module] for module in lacking if module not in _OPTIONAL]
    if packages:
        raise NoDebugger(
            f"{words} lacks {' and '.join(packages)}: {how_to_install(packages)}, or install gdb-kdump with pipx, "
            "which brings them along"
        )
    return Debugger(path, version, ".".join(map(str, python)), lent)


def _ask(path: str, lent: Sequence[str]) -> tuple[str, list[int], list[str], list[str]]:
    """What a GDB says of itself: version, Python's, the modules that it lacks, the features; raises NoDebugger."""
    probe = _PROBE.format(lent=list(lent), modules=[*PACKAGES, *_OPTIONAL], features=list(FEATURES))
    command = [path, "-nx", "-q", "-batch", "-ex", f"python exec({probe!r})"]
    try:
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDebugger(f"{path} cannot be run: {words_of(error)}; name another GDB in $GDB") from error
    line = next((line for line in run.stdout.splitlines() if line.startswith("@")), None)
    if line is None:
        said = (run.stderr.strip().splitlines() or ["nothing"])[0]
        raise NoDebugger(f"{path} is no GDB with Python (it says: {said}): install one that has it, or name it in $GDB")
    version, python, lacking, features = json.loads(line[1:])
    return version, python, lacking, features


def _own_folders(modules: Sequence[str]) -> tuple[str, ...]:
    """The folders from which this Python has modules, to lend them to GDB's: they are Python and nothing else."""
    folders = []
    for module in modules:
        spec = find_spec(module)
        if spec is not None and spec.origin:
            package = Path(spec.origin).resolve()
            folders.append(str(package.parent.parent if package.name == "__init__.py" else package.parent))
    own = [folder for folder in dict.fromkeys(folders) if folder in {str(Path(path).resolve()) for path in sys.path}]
    return tuple(own)
