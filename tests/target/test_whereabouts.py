"""VMCOREINFO is a claim: where it does not lead to the kernel of the vmlinux, that is looked for, and this is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

TOLD = "warning: the kernel of .* was looked for in memory and found: the dump's VMCOREINFO"
MOVED = 2 << 20  # bytes


def moved(digits: str) -> str:
    return f"{int(digits, 16) + MOVED:x}"


# What is wrong in VMCOREINFO: the line, and what becomes of its value, which keeps its length.
WRONG: dict[str, tuple[str, Callable[[str], str]]] = {
    "KERNELOFFSET": (r"KERNELOFFSET=([0-9a-f]+)\n", moved),
    "phys_base": (r"NUMBER\(phys_base\)=(-?[0-9]+)\n", lambda digits: str(int(digits) + MOVED)),
    "the page tables": (r"SYMBOL\((?:swapper_pg_dir|init_top_pgt)\)=([0-9a-f]+)\n", moved),
    "its symbols": (r"SYMBOL\((?:_stext|init_uts_ns)\)=([0-9a-f]+)\n", moved),
}


@pytest.fixture(scope="module", params=["6.1-reference", "6.12-reference"])
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(request.param)


def changed(dump: LabDump, path: Path, line: str, change: Callable[[str], str]) -> Path:
    """A copy of a dump with other values in these lines of VMCOREINFO, which stands plainly in it."""
    original = dump.vmcore.read_bytes()
    data = bytearray(original)
    lines = list(re.finditer(line.encode(), original))
    assert lines
    for found in lines:
        value = change(found[1].decode()).encode()
        assert len(value) == len(found[1]) and value != found[1], (found[0], value)
        data[found.start(1) : found.end(1)] = value
    path.write_bytes(data)
    return path


def test_a_wrong_vmcoreinfo_is_not_believed(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    paths = [changed(dump, tmp_path / str(n), *wrong) for n, wrong in enumerate(WRONG.values())]
    look = ("kinfo --json", "kps --json", "kbt --json", "kslab -l --json")
    commands = [
        line
        for path in (dump.vmcore, *paths)
        for line in (f"python gdb.write('{path}@', 2)", f"target kdump {path}", *look)
    ]
    run = gdb_run(*commands).succeeded()
    (info, *right), *others = [run.documents[n : n + len(look)] for n in range(0, len(run.documents), len(look))]
    assert len(others) == len(WRONG)
    for name, (other, *rest) in zip(WRONG, others):
        assert rest == right, name
        assert (other["kaslr_offset"], other["release"]) == (info["kaslr_offset"], info["release"]), name
    for path in paths:
        assert re.search(TOLD, run.stderr.split(f"{path}@")[1].partition("@")[0]), (path, run.stderr)


def test_the_users_offset_wins(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    offset = int(dump.truth["kaslr_offset"], 16)
    path = changed(dump, tmp_path / "vmcore", *WRONG["KERNELOFFSET"])
    run = gdb_run(
        f"target kdump --kaslr {offset:#x} {path}", "kps --json", f"target kdump --kaslr {offset + MOVED:#x} {path}"
    )
    assert {task["comm"] for task in run.documents[0]["tasks"]} >= {"init", "kthreadd", "load"}
    assert f"has its kernel at the KASLR offset {offset:#x}, not at {offset + MOVED:#x}" in run.stderr, run.output


def test_the_vmcoreinfo_of_another_kernel(
    gdb_run: Gdb, tmp_path: Path, dump: LabDump, lab_dump: Callable[[str], LabDump]
) -> None:
    """As after a kexec, or where a host's VMCOREINFO lies in a guest's memory: the vmlinux is found, or refused."""
    other = lab_dump({"6.1-reference": "6.12-reference"}.get(dump.name, "6.1-reference"))
    named = re.search(rb"BUILD-ID=([0-9a-f]{40})", other.vmcore.read_bytes())
    assert named
    build_id = named[1].decode()
    path = changed(dump, tmp_path / "vmcore", r"BUILD-ID=([0-9a-f]{40})", lambda _: build_id)
    commands = (f"target kdump {path} {dump.vmlinux}", "kinfo --json", f"target kdump {path} {other.vmlinux}")
    run = gdb_run(*commands)
    assert run.json()["release"] == dump.truth["kernel"] and re.search(TOLD, run.stderr), run.output
    assert re.search(r"^target kdump: .* is the vmlinux of another kernel: its banner is", run.stderr, re.MULTILINE)
