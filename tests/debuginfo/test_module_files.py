"""The file of a module in any form and place: the frames of the plain one, or one sentence about the module."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import Gdb, LabDump, Run

NOWHERE = 0xFFFF_8000_0000_0000  # no kernel maps anything there: what a page is like that is not in the dump


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-null-module")


@pytest.fixture(scope="module")
def module(dump: LabDump) -> Path:
    return Path(dump.vmcore.parent / dump.truth["module_file"])


def opened(gdb: Gdb, vmcore: Path, dump: LabDump, tree: Path, *commands: str) -> Run:
    env = {"KDUMP_VMLINUX_PATH": str(tree)}
    return gdb(*commands, "kmod kdump_lab -s --json", vmcore=vmcore, vmlinux=dump.vmlinux, env=env).succeeded()


def frames(run: Run) -> list[tuple[str, int]]:
    """The functions of the module in the trace, with their source lines."""
    (task,) = run.documents[0]["tasks"]
    return [(frame["function"], frame["line"]) for frame in task["frames"] if frame["module"] == "kdump_lab"]


def zstd(path: Path) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", path], stdout=subprocess.PIPE, check=True).stdout


def only_debug(path: Path) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["objcopy", "--only-keep-debug", path, file.name], check=True)
        return Path(file.name).read_bytes()


FORMS: dict[str, Callable[[Path], bytes]] = {
    "kdump_lab.ko": Path.read_bytes,
    "kdump-lab.ko.xz": lambda path: lzma.compress(path.read_bytes(), check=lzma.CHECK_CRC32, preset=0),
    "lib/modules/{R}/updates/dkms/kdump_lab.ko.zst": zstd,
    "usr/lib/modules/{R}/extra/kdump_lab.ko.gz": lambda path: gzip.compress(path.read_bytes(), 1),
    "usr/lib/debug/lib/modules/{R}/kernel/net/kdump_lab.ko.debug": only_debug,
    "usr/lib/debug/usr/lib/modules/{R}/weak-updates/kdump-lab.ko-1.2.x86_64.debug": Path.read_bytes,
    ".build-id/{B}.debug": Path.read_bytes,
}


def test_modules_in_every_form(gdb_run: Gdb, tmp_path: Path, dump: LabDump, module: Path) -> None:
    """One gdb opens the dump with each."""
    commands, expected = [], []
    build_id = re.search(r"Build ID: (\w\w)(\w+)", subprocess.check_output(["readelf", "-n", module], text=True))
    assert build_id is not None
    for number, (name, make) in enumerate(FORMS.items()):
        path = tmp_path / str(number) / name.format(R=dump.truth["kernel"], B=f"{build_id[1]}/{build_id[2]}")
        path.parent.mkdir(parents=True)
        path.write_bytes(make(module))
        expected.append(str(path))
        commands += [
            f"python import os; os.environ['KDUMP_VMLINUX_PATH'] = '{tmp_path / str(number)}'",
            f"target kdump {dump.vmcore} {dump.vmlinux}",
            "kmod kdump_lab -s --json",
            "kbt --json",
        ]
    run = gdb_run(*commands).succeeded()
    shown = [document["modules"][0] for document in run.documents[::2]]
    assert [row["file"] for row in shown] == expected, [row["why_not"] for row in shown]
    first, *others = run.documents[1::2]
    assert all(other == first for other in others)
    lines = {frame["function"]: frame["line"] for frame in first["tasks"][0]["frames"] if frame["module"]}
    assert {"lab_null_read", "lab_null_walk", "lab_null", "lab_ioctl"} <= lines.keys() and all(lines.values())


@pytest.mark.parametrize("named", [False, True])
def test_a_stripped_module(gdb_run: Gdb, tmp_path: Path, dump: LabDump, module: Path, named: bool) -> None:
    stripped = tmp_path / "kdump_lab.ko"
    subprocess.run(["objcopy", "--strip-debug", module, stripped], check=True)
    said = r"kdump_lab\.ko has no debug information \(stripped\): install the debug package"
    if named:
        run = gdb_run(f"kmod kdump_lab {stripped}", vmcore=dump.vmcore, vmlinux=dump.vmlinux)
        assert re.search(f"^kmod: .*{said}", run.stderr, re.MULTILINE), run.output
        return
    (row,) = opened(gdb_run, dump.vmcore, dump, tmp_path).json()["modules"]
    assert row["file"] is None and re.search(said, row["why_not"])


def test_sentences_speak_of_the_module(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    (tmp_path / "text.ko").write_text("no ELF file")
    (tmp_path / "cut.ko.xz").write_bytes(lzma.compress(b"\x7fELF" * 100)[:-20])
    (tmp_path / "text.ko.gz").write_bytes(gzip.compress(b"no ELF file"))
    given = ("text.ko", "text.ko.gz", "cut.ko.xz", "none.ko", ".")
    commands = [f"kmod kdump_lab {tmp_path / name}" for name in given]
    run = gdb_run(*commands, vmcore=dump.vmcore, vmlinux=dump.vmlinux)
    lines = [line for line in run.errors if line.startswith("kmod: ")]
    assert len(lines) == len(given), run.output
    assert not [line for line in lines if "vmlinux" in line or "None" in line]
    for line, words in zip(
        lines,
        ("text.ko is not an ELF file", "text.ko.gz is not an ELF file", "it is cut off", "No such file", "is a folder"),
    ):
        assert words in line


def test_what_an_old_makedumpfile_left_out(
    gdb_run: Gdb, tmp_path: Path, lab_dump: Callable[[str], LabDump], dump: LabDump, module: Path
) -> None:
    """The names of sections, then all that sysfs has of them, then the build-id: objects that are not in the dump."""
    tree, other = tmp_path / "tree", tmp_path / "other"
    tree.mkdir()
    shutil.copy(module, tree)
    whole = opened(gdb_run, dump.vmcore, dump, tree, "kbt --json")
    (row,) = whole.json()["modules"]
    assert row["placed"] == "" and all(line for _, line in frames(whole))
    struct = f"((struct module *){row['module']})"
    numbers = [
        f"{struct}->sect_attrs->nsections", f"&{struct}->sect_attrs", f"&{struct}->notes_attrs",
        f"&{struct}->sect_attrs->attrs[0].battr.attr.name", f"sizeof({struct}->sect_attrs->attrs[0])",
    ]  # fmt: skip
    run = gdb_run(*(f"print/x (unsigned long){number}" for number in numbers), vmcore=dump.vmcore).succeeded()
    count, sections, notes, first, size = (int(n, 16) for n in re.findall(r"^\$\d+ = (0x\w+)", run.stdout, re.M))
    patched = PatchedDump(dump.vmcore, tmp_path / "vmcore")

    for number in range(0, count, 2):
        patched.write_words(first + number * size, NOWHERE)
    shown = opened(gdb_run, patched.path, dump, tree, "kbt --json", "kmod")
    assert frames(shown) == frames(whole)
    assert shown.json()["modules"][0]["placed"].startswith("the dump lacks names of its sections")
    assert f"{tree / 'kdump_lab.ko'} (the dump lacks names" in shown.stdout

    patched.write_words(sections, NOWHERE)
    shown = opened(gdb_run, patched.path, dump, tree, "kbt --json")
    assert frames(shown) == frames(whole)
    assert shown.json()["modules"][0]["placed"].startswith("the dump lacks its sections")

    patched.write_words(notes, NOWHERE)
    shown = opened(gdb_run, patched.path, dump, tree, "kbt --json")
    assert frames(shown) == frames(whole)
    other.mkdir()
    foreign = lab_dump("6.12-null-module")
    shutil.copy(foreign.vmcore.parent / foreign.truth["module_file"], other)
    (row,) = opened(gdb_run, patched.path, dump, other).json()["modules"]
    assert row["file"] is None and "no file of its name has its symbols" in row["why_not"]
