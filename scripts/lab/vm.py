"""Runs one guest from power-on to the finished dump and follows it on its serial console."""

import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from errors import LabError

MEMORY = "1024"  # MiB
DISK_SIZE = 2 << 30  # room for the dump; the file is sparse
TAIL = 40  # console lines to show after a failure
# What the guest announces with "lab: step NAME", and the panic, in the order in which they come.
STEPS = ("boot", "kexec", "module", "traffic", "publish", "crash", "panic", "capture", "makedumpfile", "done")
PANIC = re.compile(r"Kernel panic|general protection fault|\bBUG: |\bOops: |kernel BUG at|divide error")
QEMU = (
    # Emulated: the lab must work where there is no hardware help, so it never uses it.
    "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "Nehalem",
    "-display", "none", "-monitor", "none", "-nodefaults", "-serial", "stdio", "-no-reboot",
)  # fmt: skip
CMDLINE = (
    # Nothing may be thinned out, and the log keeps all that the guest says: it carries the truth.
    "console=ttyS0 ignore_loglevel printk.devkmsg=on log_buf_len=4M "
    "crashkernel=256M sysctl.kernel.panic_on_oops=1 sysctl.kernel.sysrq=1 panic=1"
)


class Guest:
    """One boot: its console and how far it has come."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.lines: list[str] = []
        self.step = "boot"
        self._report = report

    def run(self, vmlinuz: Path, initramfs: Path, cmdline: str, cpus: int, disk: Path, timeout: int) -> None:
        """Boots, and returns when the dump is on the disk; the console says which step failed otherwise."""
        with disk.open("wb") as file:
            file.truncate(DISK_SIZE)
        command = (
            *QEMU, "-m", MEMORY, "-smp", str(cpus), "-kernel", str(vmlinuz), "-initrd", str(initramfs),
            "-append", f"{CMDLINE} {cmdline}".strip(),
            "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
        )  # fmt: skip
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as qemu:
            try:
                for line in console_lines(qemu, time.monotonic() + timeout):
                    self._take(line)
                    if self.step == "done":
                        break  # the dump is on the disk: nobody needs the guest to shut down
            except TimeoutError:
                self._fail(f"no end after {timeout} seconds")
            finally:
                qemu.kill()
        if self.step != "done":
            self._fail(f"the guest stopped after the step {self.step}")

    def _take(self, line: str) -> None:
        self.lines.append(line)
        if (announced := re.search(r"lab: step (\w+)", line)) and announced[1] in STEPS:
            self._advance(announced[1])
        elif failed := re.search(r"lab: failed: (.*)", line):
            self._fail(failed[1])
        elif STEPS.index(self.step) < STEPS.index("panic") and PANIC.search(line):
            if self.step != "crash":
                self._fail("the kernel panicked too early")
            self._advance("panic")

    def _advance(self, step: str) -> None:
        self._report(step)
        self.step = step

    def _fail(self, reason: str) -> None:
        raise LabError(self.step, reason, tuple(self.lines[-TAIL:]))


def console_lines(qemu: subprocess.Popen[bytes], deadline: float) -> Iterator[str]:
    """The console's lines as they come, until QEMU ends."""
    assert qemu.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(qemu.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            data = os.read(qemu.stdout.fileno(), 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                yield line.rstrip(b"\r").decode(errors="replace")
    if pending:
        yield pending.rstrip(b"\r").decode(errors="replace")
