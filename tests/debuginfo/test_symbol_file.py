"""The ELF files that are made for GDB: readable by another ELF reader, and obeyed by GDB itself."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

from gdb_kdump.debuginfo.symbol_file import elf_image, no_caller

TEXT = (0xFFFFFFFFC0346000, 0x2000)
SYMBOLS = [("lab_divide", TEXT[0] + 0x10, 0), ("lab_ioctl", TEXT[0] + 0x100, 0)]


def test_an_elf_reader_finds_the_symbols() -> None:
    elf = ELFFile(io.BytesIO(elf_image(62, TEXT, SYMBOLS, no_caller(*TEXT, 16, 7))))
    assert elf.get_machine_arch() == "x64"
    text = elf.get_section_by_name(".text")
    assert (text["sh_addr"], text["sh_size"]) == TEXT
    found = [(s.name, s["st_value"]) for s in elf.get_section_by_name(".symtab").iter_symbols() if s.name]
    assert found == [(name, addr) for name, addr, _ in SYMBOLS]
    (entry,) = [e for e in elf.get_dwarf_info().CFI_entries() if "initial_location" in e.header]
    assert (entry["initial_location"], entry["address_range"]) == TEXT


def test_gdb_takes_them(gdb_run: Gdb, tmp_path: Path) -> None:
    path = tmp_path / "symbols.elf"
    path.write_bytes(elf_image(62, TEXT, SYMBOLS))
    run = gdb_run("set confirm off", f"add-symbol-file {path}", f"info symbol {TEXT[0] + 0x18:#x}").succeeded()
    assert "lab_divide + 8" in run.stdout


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_module_without_debug_information(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str) -> None:
    null, softirq = lab_dump(f"{kernel}-null-module"), lab_dump(f"{kernel}-softirq-bug")
    run = gdb_run("bt 4", "up 3", "info symbol $pc", vmcore=null.vmcore).succeeded()
    assert "in lab_null_walk ()" in run.stdout
    assert "lab_ioctl + " in run.stdout
    # The next dump's module stands elsewhere: nothing may be left of this one.
    run = gdb_run("bt 4", f"target kdump {softirq.vmcore}", "bt 4", vmcore=null.vmcore).succeeded()
    assert "lab_null" not in run.stdout[run.stdout.rindex("lab_softirq_check") :]
    assert "?? ()" not in run.stdout


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_module_with_debug_information(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str) -> None:
    dump = lab_dump(f"{kernel}-null-module")
    module = dump.vmcore.parent / dump.truth["module_file"]
    run = gdb_run("kbt --json", "bt 3", vmcore=dump.vmcore, env={"KDUMP_VMLINUX_PATH": str(module.parent)}).succeeded()
    (task,) = run.json()["tasks"]
    frames = {frame["function"]: frame for frame in task["frames"]}
    assert frames["lab_null"]["file"].endswith("crash.c")
    assert frames["lab_null"]["line"] > 0
    assert "crash.c:" in run.stdout


@pytest.mark.parametrize("kernel", KERNELS)
def test_modules_in_a_folder_of_the_release(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str, tmp_path: Path
) -> None:
    """As one gets them from whoever has the machine: the dump, and beside it what was in /lib/modules."""
    dump = lab_dump(f"{kernel}-healthy")
    (tmp_path / "vmcore").symlink_to(dump.vmcore)
    folder = tmp_path / str(dump.truth["kernel"]) / "extra"
    folder.mkdir(parents=True)
    shutil.copy(dump.vmcore.parent / dump.truth["module_file"], folder)
    run = gdb_run("kmod kdump_lab -s --json", vmcore=tmp_path / "vmcore", vmlinux=dump.vmlinux).succeeded()
    (module,) = run.json()["modules"]
    assert module["file"] == str(folder / "kdump_lab.ko")
