"""What is no dump, no vmlinux and no VMCOREINFO is refused with words, whatever it is; a program's core file as one."""

from __future__ import annotations

import ast
import os
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def test_anything_that_can_be_named_is_refused_with_words(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    fifo, empty, listening, loop = (tmp_path / name for name in ("fifo", "empty", "socket", "loop"))
    os.mkfifo(fifo)
    empty.touch()
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(listening))
    special = [Path(name) for name in ("/dev/null", "/dev/zero", "/proc/self/mem", "/proc/self/maps")]
    others = [tmp_path, fifo, empty, listening, loop, empty / "below", tmp_path / "absent", tmp_path / ("x" * 300)]
    named = [*special, *others]
    ways = ("{name}", f"{dump.vmcore} {{name}}", f"--vmcoreinfo {{name}} {dump.vmcore}")
    run = gdb_run(*(f"target kdump {way.format(name=name)}" for name in named for way in ways))
    assert len(run.errors) == len(named) * len(ways), run.output
    for number, line in enumerate(run.errors):
        name = str(named[number // len(ways)])
        assert re.fullmatch(r"target kdump: .*\w{3}.*", line) and name in line, (name, line)
        assert "None" not in line and "Errno" not in line and line.count(f"{name} ") < 2, (name, line)


def test_a_long_tmpdir(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    folder = tmp_path.joinpath(*["long" * 50] * 8)
    folder.mkdir(parents=True)
    run = gdb_run("kinfo --json", vmcore=dump.vmcore, env={"TMPDIR": str(folder)})
    assert run.json()["release"] == dump.truth["kernel"] and not list(folder.iterdir()), run.output


def test_only_one_place_asks_an_exception_for_its_words() -> None:
    """An OSError may have no strerror, and any exception no text: errors.words_of() has words of both."""
    asking = []
    for path in (*(ROOT / "gdb_kdump").rglob("*.py"), *(ROOT / "commands").rglob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.Attribute) and node.attr == "strerror" for node in ast.walk(tree)):
            asking.append(path.name)
    assert not asking


def test_words_of_an_exception(in_gdb: Callable[..., list[str]]) -> None:
    def words() -> list[str]:
        from gdb_kdump.errors import words_of

        return [words_of(error) for error in (OSError(2, "No such file"), OSError("alone"), OSError(), ValueError(" "))]

    assert in_gdb(words) == ["No such file", "alone", "OSError", "ValueError"]


def core_file(elf_class: int, machine: int, name: bytes) -> bytes:
    """The beginning of a core file as fs/binfmt_elf.c writes it: headers, and the notes CORE of a process."""
    word, header = ("I", "<16sHHIIIIIHHHHHH") if elf_class == 1 else ("Q", "<16sHHIQQQIHHHHHH")
    prpsinfo = bytes(28 if elf_class == 1 else 40) + name.ljust(16, b"\0") + b"/bin/program --option".ljust(80, b"\0")
    auxv = struct.pack(f"<4{word}", 6, 4096, 0, 0)
    notes = b"".join(
        struct.pack("<III8s", 5, len(data), kind, b"CORE") + data
        for kind, data in ((1, bytes(144 if elf_class == 1 else 336)), (3, prpsinfo), (6, auxv))
    )
    size, entry = struct.calcsize(header), struct.calcsize("<IIIIIIII" if elf_class == 1 else "<IIQQQQQQ")
    at = size + entry
    ident = b"\x7fELF" + bytes([elf_class, 1, 1]).ljust(12, b"\0")
    head = struct.pack(header, ident, 4, machine, 1, 0, size, 0, 0, size, entry, 1, 0, 0, 0)
    if elf_class == 1:
        return head + struct.pack("<IIIIIIII", 4, at, 0, 0, len(notes), 0, 0, 0) + notes
    return head + struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), 0, 0) + notes


def test_the_core_file_of_a_program(gdb_run: Gdb, tmp_path: Path) -> None:
    """GDB's own of x86-64, and what the kernel writes for i386 and arm64."""
    own = tmp_path / "core"
    gdb_run("file /bin/sleep", "starti", f"generate-core-file {own}", "kill", plugin=False).succeeded()
    cores = {own: "sleep"}
    for elf_class, machine, name in ((1, 3, "daemon32"), (2, 183, "daemon-arm")):
        path = tmp_path / name
        path.write_bytes(core_file(elf_class, machine, name.encode()))
        cores[path] = name
    run = gdb_run(*(f"target kdump {path}" for path in cores))
    sentence = "is the core file of a program ({0}), not the dump of a kernel: `target core {1}` opens it"
    expected = [f"target kdump: {path} {sentence.format(name, path)}" for path, name in cores.items()]
    assert run.errors == expected, run.output
