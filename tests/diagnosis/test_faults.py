"""The fault matrix, end to end, on every kernel: planted damage is reported by the right rule, and nothing else is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("faults", "faults-slub")
TYPES = {1: "char", 2: "short", 4: "int", 8: "long"}
LEAST_KINDS = 25
LEAST_SHARE = 0.95


@pytest.fixture(scope="module", params=KERNELS)
def dumps(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> list[LabDump]:
    return [lab_dump(f"{request.param}-{scenario}") for scenario in SCENARIOS]


@pytest.fixture(scope="module")
def matrix(dumps: list[LabDump], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `scripts/bench faults` says of the dumps of one kernel."""
    file = tmp_path_factory.mktemp("faults") / "matrix.json"
    words = [str(ROOT / "scripts/bench"), "--json", str(file), "faults", *(dump.name for dump in dumps)]
    done = subprocess.run(words, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    documents: list[dict[str, Any]] = json.loads(file.read_text())["dumps"]
    return documents


def test_every_fault_is_in_its_dump(gdb_run: Gdb, dumps: list[LabDump]) -> None:
    """The truth is about this dump: each member that was written to holds what was written."""
    assert len({fault["kind"] for dump in dumps for fault in dump.truth["faults"]}) >= LEAST_KINDS
    for dump in dumps:
        writes = [
            (fault["label"], write) for fault in dump.truth["faults"] for write in fault["writes"] if write["size"] <= 8
        ]
        commands = [f"print/u *(unsigned {TYPES[write['size']]} *){write['address']}" for _, write in writes]
        run = gdb_run(*commands, vmcore=dump.vmcore)
        values = re.findall(r"^\$\d+ = (\d+)$", run.succeeded().stdout, re.MULTILINE)
        for (label, write), value in zip(writes, values, strict=True):
            wanted = write["after"]
            assert int(value) == (int(wanted, 16) if isinstance(wanted, str) else wanted), (label, write)


def test_skbcheck_answers_for_every_socket(matrix: list[dict[str, Any]]) -> None:
    assert [document["errors"] for document in matrix] == [{} for _ in matrix]


def test_faults_are_found_by_the_right_rule_on_the_right_object(matrix: list[dict[str, Any]]) -> None:
    outcomes = [outcome for document in matrix for outcome in document["outcomes"]]
    not_found = [outcome for outcome in outcomes if outcome["outcome"] != "found"]
    assert len(outcomes) - len(not_found) >= LEAST_SHARE * len(outcomes), not_found


def test_nothing_sound_is_called_corrupt(matrix: list[dict[str, Any]]) -> None:
    false = [finding for document in matrix for finding in document["false"]]
    assert [finding for finding in false if finding["severity"] == "corrupt"] == []
