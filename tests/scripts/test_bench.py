"""scripts/bench: what its command line offers; the benchmarks themselves are for people to run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pytest_gdb_fixtures.lab import ON_DEMAND, USUAL

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ("open", "traces", "walk", "search", "what", "faults", "causes", "robustness")
LOADS = ("tasks", "skbs", "modules", "memory")


def help_of(*words: str) -> str:
    done = subprocess.run(
        [ROOT / "scripts/bench", *words, "--help"], check=False, text=True, capture_output=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_names_every_benchmark() -> None:
    text = help_of()
    assert all(f"\n    {name} " in text for name in (*BENCHMARKS, "load"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_help(name: str) -> None:
    assert "6.12-" in help_of(name)


def test_the_loads_are_named() -> None:
    assert all(name in help_of("load") for name in LOADS)


def test_what_the_lab_makes_on_demand_only() -> None:
    program = """
from crashes import CRASHES
from scenarios import SCENARIOS
from kernels import LINES
crashes = {crash.name for crash in CRASHES}
print([s.name for s in SCENARIOS if s.on_demand and s.name not in crashes], end=" ")
print({name: line.on_demand for name, line in LINES.items() if line.usual})
"""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program], check=True, text=True, capture_output=True, cwd=ROOT / "scripts/lab"
    )
    everywhere = {kernel: ON_DEMAND.get(kernel, ()) for kernel in USUAL}
    assert done.stdout.strip() == f"['flood'] {everywhere}"
