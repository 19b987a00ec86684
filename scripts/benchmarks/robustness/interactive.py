"""A gdb at its prompt, to be typed at and interrupted."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools import ROOT

_MARK = "@@end of answer@@"


class Gdb:
    """A gdb that reads commands from a pipe; use it in `with`."""

    def __init__(self, *commands: str, wrapper: Sequence[str] = (), env: dict[str, str] | None = None) -> None:
        opening = [word for command in ("set height 0", "set width 0", "set confirm off", *commands)
                   for word in ("-ex", command)]  # fmt: skip
        self._said = bytearray()
        self.process = subprocess.Popen(
            [*wrapper, "gdb", "-nx", "-q", "-ex", f"source {ROOT / 'gdb_kdump' / 'init.py'}", *opening],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": ""} | (env or {}),
            # Who runs this in the background has Ctrl-C ignored, and every child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def __enter__(self) -> "Gdb":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def send(self, command: str) -> None:
        """Type a command; its answer is for answer()."""
        assert self.process.stdin
        self.process.stdin.write(f"{command}\necho {_MARK}\\n\n".encode())
        self.process.stdin.flush()

    def answer(self, timeout: float = 120) -> str:
        """What it says up to the end of the oldest command's output; raises TimeoutError, EOFError when gdb is gone."""
        assert self.process.stdout
        deadline, end = time.monotonic() + timeout, f"{_MARK}\n".encode()
        while end not in self._said:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(self._said.decode(errors="replace"))
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError(self._said.decode(errors="replace"))
            self._said += data
        answer, _, rest = self._said.partition(end)
        self._said = bytearray(rest)
        return answer.decode(errors="replace").replace("(gdb) ", "")

    def ask(self, command: str, timeout: float = 120) -> str:
        """Type a command and wait for its answer."""
        self.send(command)
        return self.answer(timeout)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def children(self) -> list[int]:
        """The process ids of its children: the dump servers."""
        found: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
        return found

    def memory(self) -> int:
        """Its resident set (bytes)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
