"""Kernels that crashed by themselves, by `scripts/bench causes`: right, nothing false, three commands that agree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS
from pytest_gdb_fixtures.lab import crashes, folder

ROOT = Path(__file__).resolve().parents[2]
LINES = ("6.1", "6.12")
FILTERED_AGAIN = ("6.12-hook-length", "6.12-xmit-double-free")  # as a makedumpfile does that is too old
LEAST_SHARE = 0.9


def _usual() -> list[str]:
    """The dumps of continuous integration, and their healthy twins where they are."""
    names = [
        f"{line}-{crash.name}"
        for line in LINES if line in KERNELS
        for crash in crashes()
        if line in crash.usual or (not crash.cause and (folder() / f"{line}-{crash.name}.vmcore").is_file())
    ]  # fmt: skip
    return names + [f"{name}@31" for name in FILTERED_AGAIN if name in names]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the benchmark says of them."""
    names = _usual()
    if not names:
        pytest.skip("none of these kernels has such dumps")
    file = tmp_path_factory.mktemp("causes") / "matrix.json"
    words = [str(ROOT / "scripts/bench"), "--json", str(file), "causes", *names]
    done = subprocess.run(words, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    documents: list[dict[str, Any]] = json.loads(file.read_text())["dumps"]
    return documents


def test_nothing_false_is_said_and_all_commands_agree(matrix: list[dict[str, Any]]) -> None:
    assert [(document["dump"], document["false"]) for document in matrix if document["false"]] == []


def test_causes_and_culprits_are_right(matrix: list[dict[str, Any]]) -> None:
    outcomes = {document["dump"]: document["outcome"] for document in matrix}
    assert "WRONG" not in outcomes.values(), outcomes
    assert list(outcomes.values()).count("right") >= LEAST_SHARE * len(outcomes), outcomes


def test_a_corrupt_one_is_there_to_agree_on(matrix: list[dict[str, Any]]) -> None:
    """This means something: some of them are corrupt to all three, and some are not."""
    verdicts = [set(document["verdicts"]) for document in matrix]
    assert {"corrupt"} in verdicts and {"clean"} in verdicts
