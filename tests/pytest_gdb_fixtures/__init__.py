"""pytest fixtures that run things inside a real gdb: one gdb process per run, nothing mocked, nothing left behind.

    gdb_run("kbt", vmcore=dump.vmcore)      a batch of GDB commands; returns a Run: stdout, stderr, status, json()
    in_gdb(body, 1, 2, elf=path)            a Python function's body inside gdb; returns what it returns
    compile_types(c_source)                 a small C program as a source of types
    lab_dump("6.1-reference")               a vmcore of the lab with the truth that the kernel published about itself

Part of this repository: tests/conftest.py loads it, and no registry has it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gdb_fixtures import inside, lab
from pytest_gdb_fixtures.lab import KERNELS, LabDump, dump_names, find_hypervisors, hypervisor_dumps, printed_trace
from pytest_gdb_fixtures.process import Gdb, Run, launcher_environment, run_launcher
from pytest_gdb_fixtures.programs import compile_program
from pytest_gdb_fixtures.terminal import Terminal

__all__ = [
    "KERNELS", "Gdb", "LabDump", "Run", "Terminal", "dump_names", "find_hypervisors", "hypervisor_dumps",
    "launcher_environment", "printed_trace", "run_launcher",
]  # fmt: skip


def pytest_configure() -> None:
    """Take Ctrl-C back: who runs the tests in the background has it ignored, and every child would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def gdb_run(tmp_path: Path) -> Gdb:
    """Runs batches of GDB commands: `gdb_run("kbt", "kps", vmcore=PATH)`."""
    return Gdb(tmp_path)


@pytest.fixture
def in_gdb(gdb_run: Gdb) -> Callable[..., Any]:
    """Runs the body of a Python function inside gdb: `in_gdb(body, *arguments, vmcore=PATH, elf=PATH)`.

    The function must import what it needs; arguments and result travel as JSON.
    """
    return lambda body, *arguments, **options: inside.call(gdb_run, body, arguments, **options)


@pytest.fixture(scope="session")
def compile_types(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles C source with debug information: `compile_types(source, "-O2")` returns the ELF file's path."""
    return lambda source, *options: compile_program(tmp_path_factory.mktemp("program"), source, *options)


@pytest.fixture(scope="session")
def lab_dump() -> Callable[[str], LabDump]:
    """Finds a dump of the lab: `lab_dump("6.1-reference")`; fails when it was not made."""
    return lab.find
