"""How much damage it survives: each case breaks something, and sees that GDB lives and that what is said is true.

Every case has a small size, for the tests, and a full one.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.robustness import environment, fuzz, interrupts, memory, truncation
from benchmarks.robustness.rows import FULL, SMALL, Row, text
from benchmarks.tools import Dump

CASES: dict[str, Callable[[Dump, str], list[Row]]] = {
    "environment": environment.measure,
    "fuzz": fuzz.measure,
    "interrupts": interrupts.measure,
    "memory": memory.measure,
    "truncation": truncation.measure,
}


def measure(dump: Dump, name: str, cases: Sequence[str] = (), is_small: bool = False) -> dict[str, Any]:
    """Runs the cases, all of them where none are named, on one dump, and prints a table as it goes."""
    size = SMALL if is_small else FULL
    print(f"\nrobustness {name} ({size})", flush=True)
    rows: list[Row] = []
    for case in cases or CASES:
        found = CASES[case](dump, size)
        print("\n".join(text(found)), flush=True)
        rows += found
    return {"dump": name, "size": size, "rows": [asdict(row) for row in rows],
            "failures": sum(len(row.failures) for row in rows)}  # fmt: skip
