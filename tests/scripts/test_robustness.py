"""scripts/bench robustness in its small size: nothing of what it breaks takes GDB along, or is kept from the user."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("case", ["environment", "fuzz", "interrupts", "memory", "truncation"])
def test_it_survives(case: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        ["scripts/bench", "--json", figures, "robustness", "--small", "--case", case, "6.1-reference"],
        check=False, cwd=ROOT, text=True, capture_output=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document, *_ = json.loads(figures.read_text())["dumps"]
    assert document["rows"] and document["failures"] == 0
    assert all(row["runs"] or row["outcomes"] for row in document["rows"]), done.stdout
