"""What the benchmarks share: the dumps, the tools, and runs of programs that say themselves what they took."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
IN_GDB = ROOT / "scripts/benchmarks/in_gdb.py"
IN_DRGN = ROOT / "scripts/benchmarks/in_drgn.py"
DRGN = "0.3.0"
TIMEOUT = 600
RESULT = "BENCH_RESULT"  # in the environment: the file that a program writes its figures to


@dataclass(frozen=True)
class Dump:
    """A dump, its vmlinux, and functions that its panic task's backtrace must show."""

    vmcore: Path
    vmlinux: Path
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A program that measures itself: `command` prints to nowhere and writes lines "NAME NUMBER" to $BENCH_RESULT.

    "inside" are its seconds, without those for starting and opening.  `note` says why a tool cannot be measured.
    """

    name: str
    version: str
    command: Sequence[str] = ()
    stdin: str = ""
    note: str = ""


@dataclass
class Figures:
    """What the runs of one program took: a list for each name, "whole" is the process from the shell; or the failure.

    Every run gives every name.
    """

    name: str
    version: str
    runs: dict[str, list[float]] = field(default_factory=dict)
    failed: str = ""

    def median(self, name: str) -> float:
        """The median of one figure."""
        return statistics.median(self.runs[name])


def measure(programs: Sequence[Program], repetitions: int) -> list[Figures]:
    """Runs every program in turn, `repetitions` times after one run that does not count."""
    results = [Figures(program.name, program.version, failed=program.note) for program in programs]
    for repetition in range(repetitions + 1):
        for program, result in zip(programs, results):
            if result.failed:
                continue
            try:
                figures = run(program)
            except RuntimeError as error:
                result.failed = str(error)
                continue
            for name, value in figures.items() if repetition else ():
                result.runs.setdefault(name, []).append(value)
    return results


def run(program: Program) -> dict[str, float]:
    """The figures of one run; raises RuntimeError with the reason when there are none."""
    with tempfile.NamedTemporaryFile(prefix="bench-") as file:
        environment = os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": "", RESULT: file.name}
        started = time.monotonic()
        try:
            done = subprocess.run(
                program.command, check=False, input=program.stdin, text=True, errors="replace", timeout=TIMEOUT,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"no end after {TIMEOUT} s") from None
        whole = time.monotonic() - started
        pairs = [line.split() for line in Path(file.name).read_text().splitlines()]
    figures = {name: float(value) for name, value in pairs}
    if "started" in figures and "ended" in figures:  # of a program that can only tell the time
        figures["inside"] = figures.pop("ended") - figures.pop("started")
    if "inside" not in figures:
        last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "nothing said")
        raise RuntimeError(f"exit status {done.returncode}: {last[:90]}")
    return figures | {"whole": whole}


def documents(results: Sequence[Figures]) -> list[dict[str, object]]:
    """The figures for --json."""
    return [asdict(result) for result in results]


def row(result: Figures, names: Sequence[str], show: Callable[[str, float], str]) -> str:
    """A line of a table: the medians of the named figures."""
    cells = (show(name, result.median(name)) if name in result.runs else "-" for name in names)
    text = f"not measured: {result.failed}" if result.failed else " ".join(f"{cell:>10}" for cell in cells)
    return f"  {result.name + ' ' + result.version:44} {text}"


def seconds(value: float) -> str:
    """A time for the tables."""
    return f"{value:.2f} s"


def gdb_version() -> str:
    """This plugin's version."""
    return (ROOT / "gdb_kdump" / "__init__.py").read_text().split('__version__ = "')[1].split('"')[0]


def gdb_command(dump: Dump, call: str) -> tuple[str, ...]:
    """A gdb that opens the dump and then calls a function of in_gdb.py."""
    return (
        "gdb", "-nx", "-batch", "-ex", f"source {ROOT / 'gdb_kdump' / 'init.py'}", "-ex", f"target kdump {dump.vmcore}",
        "-ex", f"source {IN_GDB}", "-ex", f"python {call}",
    )  # fmt: skip


def drgn_python() -> Path:
    """The Python that has drgn from PyPI, in a venv of its own."""
    python = CACHE / "drgn" / "bin" / "python"
    if not python.exists():
        print(f"installing drgn {DRGN} in {python.parents[1]}", flush=True)
        subprocess.run(["/usr/bin/python3", "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"drgn=={DRGN}"], check=True
        )
    return python


def crash_version() -> str:
    """The version of crash, which Debian's is installed where there is none."""
    query = ["dpkg-query", "-W", "-f", "${Version}", "crash"]
    if subprocess.run(query, check=False, capture_output=True).returncode:
        print("installing with apt-get: crash", flush=True)
        root = [] if os.geteuid() == 0 else ["sudo"]
        install = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "install", "-y", "crash"]
        subprocess.run(install, check=True)
    return subprocess.run(query, check=True, text=True, capture_output=True).stdout.rpartition("-")[0]
