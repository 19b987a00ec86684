"""Kernels that crashed by themselves, by `scripts/bench causes`: right, nothing false, three commands that agree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, dump_names
from pytest_gdb_fixtures.lab import crashes

ROOT = Path(__file__).resolve().parents[2]
LINES = ("6.1", "6.12")
FILTERED_AGAIN = ("6.12-hook-length", "6.12-xmit-double-free")  # as a makedumpfile does that is too old
LEAST_SHARE = 0.9


def _usual() -> list[str]:
    """Every second dump of continuous integration, as test_causes.py has them all, and the healthy twins."""
    names = [f"{line}-{crash.name}" for line in LINES if line in KERNELS for crash in crashes() if line in crash.usual]
    twins = [name for name in dump_names("rogue-healthy") if name not in names[::2]]
    return [*names[::2], *twins, *(f"{name}@31" for name in FILTERED_AGAIN if name in names)]


def test_right_and_nothing_false_and_all_commands_agree(tmp_path: Path) -> None:
    """One test, as it takes long: tests that shared its matrix would make it once in each of pytest's processes."""
    names = _usual()
    if not names:
        pytest.skip("none of these kernels has such dumps")
    file = tmp_path / "matrix.json"
    words = [str(ROOT / "scripts/bench"), "--json", str(file), "causes", *names]
    done = subprocess.run(words, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    matrix: list[dict[str, Any]] = json.loads(file.read_text())["dumps"]

    assert [(document["dump"], document["false"]) for document in matrix if document["false"]] == []
    outcomes = {document["dump"]: document["outcome"] for document in matrix}
    assert "WRONG" not in outcomes.values(), outcomes
    assert list(outcomes.values()).count("right") >= LEAST_SHARE * len(outcomes), outcomes
    # This means something: some of them are corrupt to all three commands, and some are not.
    verdicts = [set(document["verdicts"]) for document in matrix]
    assert {"corrupt"} in verdicts and {"clean"} in verdicts
