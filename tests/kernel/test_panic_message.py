"""Which line of a kernel's log says why the machine went down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OOPS = "BUG: unable to handle kernel NULL pointer dereference at 0000000000000010"
PANIC = "Kernel panic - not syncing: "


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (["eth0: link up"], None),
        (["sysrq: Trigger a crash", f"{PANIC}sysrq triggered crash", "Call Trace:"], f"{PANIC}sysrq triggered crash"),
        ([OOPS, "Call Trace:"], OOPS),
        ([OOPS, f"{PANIC}Fatal exception in interrupt"], OOPS),
        ([OOPS, f"{PANIC}hung_task: blocked tasks"], f"{PANIC}hung_task: blocked tasks"),
        # PREEMPT_RT of 5.10 has two messages.
        ([PANIC.rstrip(), "sysrq triggered crash", "Call Trace:"], f"{PANIC}sysrq triggered crash"),
        ([PANIC, "sysrq triggered crash"], f"{PANIC}sysrq triggered crash"),
        ([OOPS, PANIC.rstrip(), "Fatal exception"], OOPS),
        ([PANIC.rstrip()], PANIC),
    ],
)
def test_the_reason(in_gdb: Callable[..., Any], log: list[str], reason: str | None) -> None:
    def find(lines: list[str]) -> str | None:
        from gdb_kdump.kernel.printk import find_reason

        return find_reason(lines)

    assert in_gdb(find, log) == reason
