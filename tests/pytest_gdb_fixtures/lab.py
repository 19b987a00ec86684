"""The lab's dumps and the truths that go with them; scripts/lab/truth.py says what is in a truth."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = ROOT / ".cache" / "lab"
USUAL = ("6.1", "6.12", "6.12rt")
# The lab's lines: a test of a real kernel's dump is a test of each of these.
KERNELS = tuple(os.environ.get("GDB_KDUMP_KERNELS", "").split()) or USUAL
# What the lab makes only when it is told to: tested where it is there.
ON_DEMAND = {"6.12rt": ("stack-overflow", "nmi", "bug-syscall", "warn-syscall", "divide")}


@dataclass(frozen=True, eq=False)
class LabDump:
    """One dump: its name ("6.1-reference"), its file, and what the kernel said of itself before it crashed."""

    name: str
    vmcore: Path
    truth: dict[str, Any]

    @property
    def vmlinux(self) -> Path:
        """The vmlinux with debug information: where Debian's package has it, or beside the dump."""
        installed = Path("/usr/lib/debug/boot", f"vmlinux-{self.truth['kernel']}")
        return installed if installed.exists() else self.vmcore.with_name(installed.name)

    def skbs(self) -> dict[str, dict[str, Any]]:
        """The truth's sk_buffs by address; one that clones share is there more than once, with the same members."""
        return {skb["skb"]: skb for skb in self.truth["skbs"]}


def printed_trace(call_trace: list[str], start: int) -> list[str]:
    """The lines of the trace that begins there: up to </TASK>, or where kernels before 5.16 go on without that."""
    ends = ("</TASK>", "RIP: 0033:", "Modules linked in:")
    end = next((n for n, line in enumerate(call_trace) if n > start and line.strip().startswith(ends)), None)
    return call_trace[start:end]


def folder() -> Path:
    """Where the dumps are."""
    return Path(os.environ.get("GDB_KDUMP_LAB") or DEFAULT_FOLDER)


def dump_names(*scenarios: str) -> list[str]:
    """The names of the dumps of these scenarios, of every kernel: those always made, and others that are there."""
    pairs = [(kernel, scenario) for kernel in KERNELS for scenario in scenarios]
    return [
        f"{kernel}-{scenario}"
        for kernel, scenario in pairs
        if _is_always_made(kernel, scenario) or (folder() / f"{kernel}-{scenario}.vmcore").is_file()
    ]


def _is_always_made(kernel: str, scenario: str) -> bool:
    usual = next((crash.usual for crash in crashes() if crash.name == scenario), None)
    return scenario not in ON_DEMAND.get(kernel, ()) if usual is None else kernel in usual


# Guests that a hypervisor dumps, without kdump (scripts/lab/hypervisor.py): made for these lines, others on demand.
OF_HYPERVISOR = ("6.1", "6.12")


def hypervisor_dumps(*files: str, on_demand: tuple[str, ...] = ()) -> list[str]:
    """The names of such dumps of every kernel: "6.1-qemu-panic/panic.elf"; those `on_demand` where they are."""
    usual = [f"{kernel}-{file}" for kernel in KERNELS if kernel in OF_HYPERVISOR for file in files]
    others = [f"{kernel}-{file}" for kernel in KERNELS for file in (*files, *on_demand)]
    return usual + [name for name in others if name not in usual and (folder() / name).is_file()]


@cache
@cache
def crashes() -> tuple[Any, ...]:
    """The kernels that crash by themselves, of scripts/lab/crashes.py, with the cause and the culprit of each."""
    spec = importlib.util.spec_from_file_location("lab_crashes", ROOT / "scripts" / "lab" / "crashes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: tuple[Any, ...] = module.CRASHES
    return found


@cache
def find_hypervisors(name: str) -> LabDump:
    """The dump of that name; fails the test when there is none."""
    vmcore = folder() / name
    if not vmcore.is_file():
        kernel, _, guest = vmcore.parent.name.partition("-")
        pytest.fail(f"{vmcore} is missing: make it with `scripts/lab/make --kernel {kernel} {guest}`", pytrace=False)
    return LabDump(name, vmcore, json.loads(vmcore.with_name("truth.json").read_text()))


@cache
def find(name: str) -> LabDump:
    """The dump of that name; fails the test when there is none, since a test that does not run proves nothing."""
    vmcore, truth = folder() / f"{name}.vmcore", folder() / f"{name}.truth.json"
    if not (vmcore.is_file() and truth.is_file()):
        kernel, _, scenario = name.partition("-")
        pytest.fail(f"{vmcore} is missing: make it with `scripts/lab/make --kernel {kernel} {scenario}`", pytrace=False)
    return LabDump(name, vmcore, json.loads(truth.read_text()))
