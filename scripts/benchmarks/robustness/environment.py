"""What can happen around an open dump: its file changes or goes, the server is killed, there is no room or no right for
the index, the index is damaged, several GDBs have the dump at once, and one opens it again and again.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.robustness.interactive import Gdb
from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import Dump

OPENS = {SMALL: 10, "full": 200}
_PROBE = "kps 1 --json"
_GROWTH = 1.05
_ALIVE = ("print 6 * 7", "= 42")


def measure(dump: Dump, size: str) -> list[Row]:
    """A row for each thing that happens."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for what, case in _CASES.items():
            row = Row("environment", what)
            case(dump, folder, row)
            rows.append(row)
        rows.append(_killed(dump, size))
        rows.append(_together(dump, 2 if size == SMALL else 8))
        rows.append(_again_and_again(dump, folder, OPENS[size]))
        if size != SMALL:  # each of them has GDB read all of the vmlinux, which takes 10 to 20 s
            rows.append(_no_index(dump, folder))
            rows.append(_damaged_index(dump, folder))
    return rows


def _copy(dump: Dump, folder: Path) -> Path:
    path = folder / "vmcore"
    shutil.copy(dump.vmcore, path)
    return path


def _see(row: Row, gdb: Gdb, outcome: str, problem: str = "") -> None:
    """One more trial; GDB must be alive at its end."""
    try:
        answer = gdb.ask(_ALIVE[0])
    except (TimeoutError, EOFError, BrokenPipeError) as error:
        row.count("GDB died", f"{row.what}: {type(error).__name__}")
        return
    if _ALIVE[1] not in answer:
        problem = problem or f"GDB says {answer!r}"
    row.count(outcome, f"{row.what}: {problem}" if problem else "")


def _bug(said: str) -> str:
    # GDB's own words for a target that goes while it prints a frame.
    ours = said.replace("Python Exception <class 'gdb.error'>: ", "")
    return said[-800:] if "Traceback" in ours or "Python Exception" in ours else ""


def _replaced(dump: Dump, folder: Path, row: Row) -> None:
    """Another file gets the dump's name: what is open stays what it was."""
    path = _copy(dump, folder)
    with Gdb(f"target kdump {path} {dump.vmlinux}") as gdb:
        before = gdb.ask("kbt") and gdb.ask("kbt -a --json")
        (folder / "other").write_bytes(b"not a dump\n" * 1000)
        (folder / "other").rename(path)
        gdb.ask("set kdump max-elements 9999999")  # which forgets what was read
        after = gdb.ask("kbt -a --json")
        _see(row, gdb, "the same answers" if before == after else "others", "" if before == after else after[-300:])


def _truncated(dump: Dump, folder: Path, row: Row) -> None:
    """The file is cut: a sentence, and no zeros."""
    path = _copy(dump, folder)
    with Gdb(f"target kdump {path} {dump.vmlinux}") as gdb:
        gdb.ask("kbt")
        os.truncate(path, path.stat().st_size // 3)
        gdb.ask("set kdump max-elements 9999999")
        for command in ("kps", "kbt -a", "x/4xg init_task.tasks.next", "bt", "skbcheck --all"):
            said = gdb.ask(command)
            told = "cut off while it was open" in said or "Cannot access memory" in said or "#0" in said
            _see(row, gdb, "told" if told else "silent", _bug(said) or ("" if told else f"{command}: {said[-300:]}"))


def _overwritten(dump: Dump, folder: Path, row: Row) -> None:
    """Other bytes are written into the file, which keeps its size: one warning, for our commands and for GDB's own."""
    path = _copy(dump, folder)
    for command in ("kbt -a", "kbt -a --json", "x/4xg init_task.tasks.next", "bt"):
        shutil.copy(dump.vmcore, path)
        with Gdb(f"target kdump {path} {dump.vmlinux}") as gdb:
            gdb.ask("echo")
            with path.open("r+b") as file:
                file.seek(-file.seek(0, os.SEEK_END) // 3, os.SEEK_END)
                file.write(os.urandom(1 << 20))
            said = gdb.ask(command) + gdb.ask("kslab -l") + gdb.ask("kps")
            told = said.count("has been written to since it was opened")
            _see(row, gdb, "told" if told == 1 else f"told {told} times", _bug(said) or ("" if told == 1 else command))


def _unmounted(dump: Dump, folder: Path, row: Row) -> None:
    """Its file system goes (lazily: an open file keeps a real one from going)."""
    place = folder / "mount"
    with _mounted(place, "size=64m") as is_mounted:
        if not is_mounted:
            row.outcomes["not tried: not root"] = 1
            return
        path = _copy(dump, place)
        with Gdb(f"target kdump {path} {dump.vmlinux}") as gdb:
            before = gdb.ask("kbt") and gdb.ask("kbt -a --json")
            subprocess.run(["umount", "-l", place], check=True)
            gdb.ask("set kdump max-elements 9999999")
            after = gdb.ask("kbt -a --json")
            _see(row, gdb, "the same answers" if before == after else "others", "" if before == after else after[-300:])
            said = gdb.ask(f"target kdump {path} {dump.vmlinux}")
            told = "no such file" in said
            _see(row, gdb, "told" if told else "silent", "" if told else said[-300:])


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[bool]:
    """A small file system, where one may be made; it is gone at the end."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "bench", str(place)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


_CASES: dict[str, Callable[[Dump, Path, Row], None]] = {
    "the file is replaced": _replaced,
    "the file is cut": _truncated,
    "the file is overwritten": _overwritten,
    "the file system goes": _unmounted,
}


def _killed(dump: Dump, size: str) -> Row:
    """Signals to the server while commands read; then the dump is opened again in the same GDB."""
    row = Row("environment", "the server is killed")
    moments = (0.1,) if size == SMALL else (0.02, 0.1, 0.3)
    opening = f"target kdump {dump.vmcore} {dump.vmlinux}"
    with Gdb(opening) as gdb:
        expected = gdb.ask("kbt") and gdb.ask(_PROBE)
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGTERM, signal.SIGABRT):
            for command in ("skbcheck --all", "thread apply all bt 3"):
                for moment in moments:
                    gdb.ask("set kdump max-elements 9999999")
                    (server,) = gdb.children()
                    gdb.send(command)
                    time.sleep(moment)
                    os.kill(server, number)
                    _wait_for_end(server)
                    said = gdb.answer() + gdb.ask("kps")
                    told = f"died ({number.name})" in said and str(dump.vmcore.name) in said
                    problem = _bug(said) or ("" if told else f"{command}: {said[-400:]}")
                    said = gdb.ask(opening)
                    if gdb.ask(_PROBE) != expected:
                        problem = problem or f"after opening again: {said[-300:]}"
                    _see(row, gdb, "told" if told else "not told", problem)
    return row


def _wait_for_end(process: int) -> None:
    """Wait until a killed process has died: on a busy machine that takes its time."""
    deadline = time.monotonic() + 10
    with suppress(FileNotFoundError, ProcessLookupError):
        while time.monotonic() < deadline:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
            time.sleep(0.01)


def _together(dump: Dump, most: int) -> Row:
    """Several GDBs on one dump at once."""
    row = Row("environment", f"2 to {most} GDBs at once")
    for count in sorted({2, most}):
        with ExitStack() as stack:
            all_of_them = [stack.enter_context(Gdb(f"target kdump {dump.vmcore} {dump.vmlinux}")) for _ in range(count)]
            for gdb in all_of_them:
                gdb.send("kbt")
                gdb.send("kbt -a --json")
            answers = [(gdb.answer(300), gdb.answer(300))[1] for gdb in all_of_them]
            for gdb, answer in zip(all_of_them, answers):
                same = answer == answers[0] and '"tasks"' in answer
                _see(row, gdb, "the same answers" if same else "others", "" if same else answer[-300:])
    return row


def _again_and_again(dump: Dump, folder: Path, count: int) -> Row:
    """One GDB opens it many times, and uses it: nothing is left of the times before."""
    row = Row("environment", f"{count} opens in one GDB")
    temporary = folder / "tmp"
    temporary.mkdir()
    with Gdb(env={"TMPDIR": str(temporary)}) as gdb:

        def once() -> tuple[str, int, int]:
            said = gdb.ask(f"target kdump {dump.vmcore} {dump.vmlinux}") + gdb.ask("kbt") + gdb.ask("kmod -s")
            return said, gdb.memory(), len(list(Path(f"/proc/{gdb.process.pid}/fd").iterdir()))

        for _ in range(5):  # GDB fills its own caches
            _, memory, files = once()
        for number in range(count):
            said, now, descriptors = once()
            problem = _bug(said)
            if len(gdb.children()) != 1:
                problem = f"open {number}: {len(gdb.children())} children"
            if descriptors > files + 2:
                problem = f"open {number}: {descriptors} files, {files} at first"
            if list(temporary.iterdir()):
                problem = f"open {number}: files in TMPDIR"
            row.count("opened", problem)
        row.figures = {"MB at first": memory / 1e6, "MB at last": now / 1e6, "growth %": 100 * (now / memory - 1)}
        if now > memory * _GROWTH:
            row.failures.append(f"memory grew from {memory / 1e6:.0f} to {now / 1e6:.0f} MB")
        _see(row, gdb, "alive")
    return row


def _no_index(dump: Dump, folder: Path) -> Row:
    """No room for the index of the vmlinux, a home that is read-only, and nowhere to put it."""
    row = Row("environment", "no room or right for the index")
    place = folder / "full"
    for options in ("size=1m", "ro"):
        with _mounted(place, options) as is_mounted:
            if is_mounted:
                _open_with(dump, {"HOME": str(place), "XDG_CACHE_HOME": ""}, row, "slower")
    for cache in ("/proc", "/dev/null"):
        _open_with(dump, {"XDG_CACHE_HOME": cache}, row, "slower")
    return row


def _damaged_index(dump: Dump, folder: Path) -> Row:
    """The index or its checksum is cut, emptied, overwritten: it is made again, or done without."""
    row = Row("environment", "a damaged index")
    good = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gdb-kdump"
    for number, damage in enumerate((_cut, _empty, _flip, _noise)):
        cache = folder / f"cache-{number}"
        shutil.copytree(good, cache / "gdb-kdump")
        for path in [path for path in (cache / "gdb-kdump").rglob("*") if path.is_file()]:
            damage(path)
        _open_with(dump, {"XDG_CACHE_HOME": str(cache)}, row, "opened")
        shutil.rmtree(cache)
    return row


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip(path: Path) -> None:
    if path.suffix != ".crc32":
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 3)
            file.write(b"\xff" * 64)


def _noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


def _open_with(dump: Dump, env: dict[str, str], row: Row, outcome: str) -> None:
    with Gdb(env=env) as gdb:
        started = time.monotonic()
        said = gdb.ask(f"target kdump {dump.vmcore} {dump.vmlinux}", timeout=400) + gdb.ask("kbt")
        row.most("longest s", time.monotonic() - started)
        opened = all(function in said for function in dump.functions)
        _see(row, gdb, outcome if opened else "not opened", _bug(said) or ("" if opened else said[-400:]))
