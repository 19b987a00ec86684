"""Dumps of a guest that has not crashed, taken by QEMU from outside in every format that it has."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import initramfs
from errors import LabError
from kernels import Kernel
from monitor import Monitor
from vm import QEMU, TAIL, console_lines

NAME = "live"
SUMMARY = "a guest that did not crash, dumped by QEMU: ELF with and without -p, kdump, with and without VMCOREINFO"
LINES = ("6.1", "6.12")  # others on demand
MEMORY = "160"  # MiB: QEMU leaves nothing out
TIMEOUT = 240
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
echo "lab: live bare" > /dev/kmsg
read -r go < /dev/ttyS0
# This module tells QEMU where VMCOREINFO is.
insmod /qemu_fw_cfg.ko
echo "lab: live noted" > /dev/kmsg
while :; do :; done
"""
# By what the guest has said last: file name, QEMU's format, whether by the guest's page tables.
DUMPS = {
    "bare": (("bare.elf", "elf", False), ("bare.kdump", "kdump-zlib", False)),
    "noted": (("plain.elf", "elf", False), ("paging.elf", "elf", True), ("flat.kdump", "kdump-zlib", False)),
}


def folder(cache: Path, kernel_line: str) -> Path:
    """Where the dumps of a kernel are."""
    return cache / f"{kernel_line}-{NAME}"


def make_dumps(kernel: Kernel, cache: Path, report: Callable[[str], None]) -> None:
    """Leaves a folder with all of DUMPS in the cache, or none."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as name:
        work = Path(name)
        made = work / NAME
        made.mkdir(mode=0o755)
        (work / "init").write_text(INIT)
        (work / "initramfs").write_bytes(initramfs.live_archive(kernel.modules, work / "init"))
        command = (
            *QEMU, "-m", MEMORY, "-smp", "2", "-kernel", str(kernel.vmlinuz), "-initrd", str(work / "initramfs"),
            "-append", "console=ttyS0 ignore_loglevel", "-device", "vmcoreinfo",
            "-qmp", f"unix:{work / 'qmp'},server=on,wait=off",
        )  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
            try:
                _follow(qemu, work / "qmp", made, report)
            finally:
                qemu.kill()
        final = folder(cache, kernel.line)
        shutil.rmtree(final, ignore_errors=True)
        made.rename(final)


def _follow(qemu: subprocess.Popen[bytes], qmp: Path, made: Path, report: Callable[[str], None]) -> None:
    """Takes the dumps whenever the guest says that it is time."""
    lines: list[str] = []
    try:
        for line in console_lines(qemu, time.monotonic() + TIMEOUT):
            lines.append(line)
            if not (said := re.search(r"lab: live (\w+)", line)):
                continue
            report(said[1])
            with Monitor(qmp, NAME) as monitor:
                monitor.ask("stop")
                for name, form, paging in DUMPS[said[1]]:
                    report(name)
                    path = made / name
                    monitor.dump(path, form, paging)
                monitor.ask("cont")
            if said[1] == "noted":
                return
            assert qemu.stdin is not None
            qemu.stdin.write(b"go\n")
            qemu.stdin.flush()
    except TimeoutError:
        raise LabError(NAME, f"no end after {TIMEOUT} seconds", tuple(lines[-TAIL:])) from None
    raise LabError(NAME, "the guest stopped", tuple(lines[-TAIL:]))
