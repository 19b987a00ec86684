"""The lab's dumps and the truths that go with them; scripts/lab/truth.py says what is in a truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = ROOT / ".cache" / "lab"


@dataclass(frozen=True, eq=False)
class LabDump:
    """One dump: its name ("6.1-reference"), its file, and what the kernel said of itself before it crashed."""

    name: str
    vmcore: Path
    truth: dict[str, Any]

    @property
    def vmlinux(self) -> Path:
        """The vmlinux with debug information, where Debian's package has it."""
        return Path("/usr/lib/debug/boot", f"vmlinux-{self.truth['kernel']}")

    def skbs(self) -> dict[str, dict[str, Any]]:
        """The truth's sk_buffs by address; one that clones share is there more than once, with the same members."""
        return {skb["skb"]: skb for skb in self.truth["skbs"]}


@cache
def find(folder: Path, name: str) -> LabDump:
    """The dump of that name; fails the test when there is none, since a test that does not run proves nothing."""
    vmcore, truth = folder / f"{name}.vmcore", folder / f"{name}.truth.json"
    if not (vmcore.is_file() and truth.is_file()):
        kernel, _, scenario = name.partition("-")
        pytest.fail(f"{vmcore} is missing: make it with `scripts/lab/make --kernel {kernel} {scenario}`", pytrace=False)
    return LabDump(name, vmcore, json.loads(truth.read_text()))
