"""How much damage it survives: each case breaks something, and sees that GDB lives and that what is said is true.

Every case has a small size, for the tests, and a full one.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.robustness import environment, fuzz, interrupts, memory, truncation
from benchmarks.robustness.rows import FULL, SMALL, Row, text
from benchmarks.tools import Dump

FIXED: dict[str, Callable[[Dump, str], list[Row]]] = {
    "environment": environment.measure,
    "interrupts": interrupts.measure,
    "truncation": truncation.measure,
}
RANDOM: dict[str, Callable[[Dump, str, int], list[Row]]] = {"fuzz": fuzz.measure, "memory": memory.measure}
CASES = sorted((*FIXED, *RANDOM))


def measure(
    dump: Dump, name: str, cases: Sequence[str] = (), is_small: bool = False, seed: int = 1
) -> dict[str, Any]:  # fmt: skip
    """Runs the cases, all of them where none are named, on one dump, and prints a table as it goes."""
    size = SMALL if is_small else FULL
    print(f"\nrobustness {name} ({size}, seed {seed})", flush=True)
    rows: list[Row] = []
    for case in cases or CASES:
        found = RANDOM[case](dump, size, seed) if case in RANDOM else FIXED[case](dump, size)
        print("\n".join(text(found)), flush=True)
        rows += found
    return {"dump": name, "size": size, "seed": seed, "rows": [asdict(row) for row in rows],
            "failures": sum(len(row.failures) for row in rows)}  # fmt: skip
