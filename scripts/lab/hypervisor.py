"""Dumps that QEMU took of guests without kdump: panicked on some CPU, with CPUs stopped or offline, or running."""

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import initramfs
import truth
from errors import LabError
from kernels import Build, Kernel
from monitor import Monitor
from vm import QEMU, TAIL, console_lines

TIMEOUT = 240
PANICKED = re.compile(r"---\[ end Kernel panic")
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
say() { echo "lab: $*" > /dev/kmsg; }
published() { read -r go < /dev/ttyS0; }
stop() { say "stop $1"; read -r go < /dev/ttyS0; }
insmod /kdump_lab.ko || say "failed: insmod"
"""
LOAD = ("/load /scenario",)
SPIN = ("task lab-spin 1 spin", "user-spin lab-user-spin 0", "settle 200")
SYSRQ = r"Kernel panic - not syncing: sysrq triggered crash"


@dataclass(frozen=True)
class Guest:
    """One boot: what its PID 1 runs, the loader's words, and the dumps by what the guest has said: (file, format).

    A guest says "lab: stop NAME" and waits, "lab: nmi", or panics ("panic").
    """

    name: str
    summary: str
    words: tuple[str, ...]
    dumps: dict[str, tuple[tuple[str, str], ...]]
    expect: str = SYSRQ
    init: tuple[str, ...] = LOAD
    cpus: int = 4
    memory: int = 160  # MiB: QEMU leaves nothing out
    on_demand: bool = False


GUESTS = (
    Guest(
        name="qemu-panic",
        summary="four CPUs, sysrq-c on CPU 2; panic() stops the others in a program, in the module and idle",
        words=("cpu 2", *SPIN, "sysrq l", "publish", "sysrq c"),
        dumps={"panic": (("panic.elf", "elf"), ("panic.kdump", "kdump-zlib"))},
    ),
    Guest(
        name="qemu-offline",
        summary="four CPUs, of which CPU 1 is taken offline; first running, then sysrq-c on CPU 3",
        words=("cpu 3", "task lab-spin 2 spin", "user-spin lab-user-spin 0", "settle 200", "sysrq l", "publish",
               "settle 600000"),
        init=(
            "echo 0 > /sys/devices/system/cpu/cpu1/online",
            "/load /scenario &",
            "published",
            "stop running",
            "/bin/busybox taskset -p 8 1 > /tmp/out",
            "echo c > /proc/sysrq-trigger",
        ),
        dumps={"running": (("running.kdump", "kdump-zlib"),), "panic": (("panic.kdump", "kdump-zlib"),)},
    ),
    Guest(
        name="qemu-init",
        summary="one CPU, and PID 1 exits",
        cpus=1,
        words=("cpu 0", "publish", "settle 600000"),
        init=("/load /scenario &", "published", "exit 7"),
        expect=r"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700",
        dumps={"panic": (("panic.kdump", "kdump-zlib"),)},
    ),
    Guest(
        name="qemu-nmi",
        summary="four CPUs, a panic in an NMI on CPU 0, which spins in the module with interrupts off",
        words=("cpu 2", "task lab-irqs-off 0 spin-irqs-off", "task lab-spin 1 spin", "settle 200",
               "sysctl kernel/unknown_nmi_panic 1", "sysrq l", "publish", "do irqs-off-now 1", "settle 600000"),
        init=("/load /scenario &", "published", "sleep 0.5", "say nmi", "published"),
        expect=r"Kernel panic - not syncing: NMI: Not continuing",
        dumps={"panic": (("panic.elf", "elf"),)},
    ),
    Guest(
        name="qemu-many",
        summary="24 CPUs, sysrq-c on CPU 17",
        cpus=24,
        memory=320,
        words=("cpu 17", *SPIN, *(f"task lab-spin-{cpu} {cpu} spin" for cpu in range(2, 12)), "sysrq l", "publish",
               "sysrq c"),
        dumps={"panic": (("panic.elf", "elf"), ("panic.kdump", "kdump-zlib"))},
        on_demand=True,
    ),
    Guest(
        name="qemu-init4",
        summary="four CPUs, and PID 1 exits on CPU 3",
        words=("cpu 2", *SPIN, "sysrq l", "publish", "settle 600000"),
        init=("/load /scenario &", "published", "/bin/busybox taskset -p 8 1 > /tmp/out", "exit 7"),
        expect=r"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700",
        dumps={"panic": (("panic.elf", "elf"), ("panic.kdump", "kdump-zlib"))},
        on_demand=True,
    ),
)  # fmt: skip


def folder(cache: Path, kernel_line: str, guest: Guest) -> Path:
    """Where the dumps of a guest are, with console.log and truth.json."""
    return cache / f"{kernel_line}-{guest.name}"


def make_dumps(kernel: Kernel, built: Build, guest: Guest, cache: Path, report: Callable[[str], None]) -> None:
    """Leaves a folder with all dumps of a guest in the cache, or none."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as name:
        work = Path(name)
        made = work / "made"
        made.mkdir(mode=0o755)
        (work / "init").write_text(INIT + "".join(f"{line}\n" for line in guest.init))
        (work / "initramfs").write_bytes(
            initramfs.guest_archive(work / "init", built.module, built.loader)
            + initramfs.scenario_archive(guest.words, "")
        )
        command = (
            *QEMU, "-m", str(guest.memory), "-smp", str(guest.cpus), "-kernel", str(kernel.vmlinuz),
            "-initrd", str(work / "initramfs"), "-append",
            "console=ttyS0 ignore_loglevel printk.devkmsg=on log_buf_len=4M sysctl.kernel.sysrq=1",
            "-qmp", f"unix:{work / 'qmp'},server=on,wait=off",
        )  # fmt: skip
        lines: list[str] = []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
            try:
                _follow(qemu, guest, work / "qmp", made, lines, report)
            finally:
                qemu.kill()
        document: dict[str, Any] = {
            "scenario": guest.name,
            "kernel_line": kernel.line,
            "dump_options": "",
            "module_file": str(built.module.relative_to(cache)),
        } | truth.read_log(lines, guest.expect)
        # Before the panic the guest has shown what each CPU did.
        document["nmi_traces"] = truth.nmi_traces(lines)
        (made / "truth.json").write_text(json.dumps(document, indent=1) + "\n")
        (made / "console.log").write_text("".join(f"{line}\n" for line in lines))
        final = folder(cache, kernel.line, guest)
        shutil.rmtree(final, ignore_errors=True)
        made.rename(final)


def _follow(
    qemu: subprocess.Popen[bytes], guest: Guest, qmp: Path, made: Path, lines: list[str], report: Callable[[str], None]
) -> None:
    """Takes the dumps whenever the guest says that it is time; the last are those of its panic."""
    try:
        for line in console_lines(qemu, time.monotonic() + TIMEOUT):
            lines.append(line)
            if "lab: failed" in line:
                raise LabError(guest.name, line, tuple(lines[-TAIL:]))
            if line.endswith("lab: nmi"):
                with Monitor(qmp, guest.name) as monitor:
                    monitor.ask("inject-nmi")
            elif PANICKED.search(line):
                _dump(qmp, guest, "panic", made, report)
                return
            elif said := re.search(r"lab: stop (\w+)", line):
                _dump(qmp, guest, said[1], made, report)
                _go_on(qemu)
            elif line.endswith("lab: step crash"):  # the loader has published
                _go_on(qemu)
    except TimeoutError:
        raise LabError(guest.name, f"no end after {TIMEOUT} seconds", tuple(lines[-TAIL:])) from None
    raise LabError(guest.name, "the guest stopped", tuple(lines[-TAIL:]))


def _go_on(qemu: subprocess.Popen[bytes]) -> None:
    assert qemu.stdin is not None
    qemu.stdin.write(b"go\n")
    qemu.stdin.flush()


def _dump(qmp: Path, guest: Guest, moment: str, made: Path, report: Callable[[str], None]) -> None:
    report(moment)
    with Monitor(qmp, guest.name) as monitor:
        monitor.ask("stop")
        for name, form in guest.dumps[moment]:
            monitor.dump(made / name, form)
        monitor.ask("cont")
