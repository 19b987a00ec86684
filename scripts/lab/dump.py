"""Makes one dump: boots, crashes, collects, and puts the finished files in place."""

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import initramfs
import kernels
import truth
from errors import LabError
from kernels import Build, Kernel
from scenarios import Scenario
from vm import Guest


def dump_path(cache: Path, kernel_line: str, scenario: Scenario) -> Path:
    """Where the dump of a scenario lies."""
    return cache / f"{kernel_line}-{scenario.name}.vmcore"


def make_dump(kernel: Kernel, built: Build, scenario: Scenario, cache: Path, report: Callable[[str], None]) -> None:
    """Leaves NAME.vmcore, NAME.truth.json and NAME.console.log in the cache, or none of them."""
    final = dump_path(cache, kernel.line, scenario)
    level = kernels.LINES[kernel.line].dump_level if scenario.dump_level is None else scenario.dump_level
    dump_options = f"{scenario.dump_options} -d {level}"
    guest = Guest(report)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as name:
        work = Path(name)
        archive = work / "initramfs.cpio"
        words = initramfs.scenario_archive(scenario.words, dump_options)
        archive.write_bytes(built.initramfs.read_bytes() + words)
        try:
            guest.run(kernel.vmlinuz, archive, scenario.cmdline, scenario.cpus, work / "disk", scenario.timeout)
        finally:
            # Of a boot that failed only this stays.
            console = final.with_suffix(".failed.log")
            console.write_text("".join(f"{line}\n" for line in guest.lines))
        _rearrange(work / "disk", work / "vmcore")
        report("truth")
        log = _kernel_log(work / "vmcore", work / "log")
        document = {
            "scenario": scenario.name,
            "kernel_line": kernel.line,
            "dump_options": dump_options,
            "module_file": str(built.module.relative_to(cache)),
        } | truth.read_log(log, scenario.expect)
        if document["kernel"] != kernel.release:
            raise LabError("truth", f"{document['kernel']} ran instead of {kernel.release}")
        if int(document["kaslr_offset"], 16) == 0 and "nokaslr" not in scenario.cmdline:
            raise LabError("truth", "the kernel was not relocated")
        (work / "truth.json").write_text(json.dumps(document, indent=1) + "\n")
        (work / "vmcore").chmod(0o644)
        # An old dump goes first and the new one comes last: who sees a dump finds its own truth beside it.
        final.unlink(missing_ok=True)
        console.rename(final.with_suffix(".console.log"))
        (work / "truth.json").rename(final.with_suffix(".truth.json"))
        (work / "vmcore").rename(final)


def _rearrange(flattened: Path, vmcore: Path) -> None:
    """Turns the stream that the guest wrote into a file that can be read at random."""
    with flattened.open("rb") as stream:
        _makedumpfile("-R", str(vmcore), stdin=stream)


def _kernel_log(vmcore: Path, file: Path) -> list[str]:
    """The lines in the crashed kernel's log: all of them, as log_buf_len is more than enough."""
    _makedumpfile("--dump-dmesg", str(vmcore), str(file))
    return file.read_text(errors="replace").splitlines()


def _makedumpfile(*arguments: str, stdin: BinaryIO | None = None) -> None:
    done = subprocess.run(["makedumpfile", *arguments], check=False, text=True, stdin=stdin,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    if done.returncode:
        output = tuple(done.stdout.splitlines())
        raise LabError(f"makedumpfile {arguments[0]}", f"exit status {done.returncode}", output)
