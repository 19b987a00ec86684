"""A program on a terminal of a given size, and what its screen shows, as pyte reads it back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte
import pytest

_PATIENCE = 90.0  # seconds


class Terminal:
    """Runs a program on a terminal; `with Terminal(...) as terminal` ends it."""

    def __init__(
        self, command: Sequence[str], columns: int, lines: int, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            if cwd is not None:
                os.chdir(cwd)
            os.execvpe(command[0], list(command), dict(env))
        self.status: int | None = None

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the empty ones at its end."""
        shown = "\n".join(line.rstrip() for line in self._screen.display)
        return shown.rstrip("\n").split("\n")

    def cells(self, line: int) -> list[Any]:
        """The characters of a line of the screen with their colours and weights."""
        return [self._screen.buffer[line][column] for column in range(self._screen.columns)]

    def wait_for(self, pattern: str) -> str:
        """Read until the screen shows what the pattern matches; returns the whole screen."""
        deadline = time.monotonic() + _PATIENCE
        while not re.search(pattern, "\n".join(self.lines), re.MULTILINE):
            if not self._read(deadline):
                pytest.fail(f"{pattern!r} did not come; the screen is:\n" + "\n".join(self.lines), pytrace=False)
        return "\n".join(self.lines)

    def type(self, text: str) -> None:
        """Type text; an Enter is "\\n"."""
        os.write(self._terminal, text.encode())

    def end(self) -> int:
        """Read until the program has ended; returns its exit status."""
        deadline = time.monotonic() + _PATIENCE
        while self._read(deadline):
            pass
        if time.monotonic() > deadline:
            pytest.fail("the program does not end; the screen is:\n" + "\n".join(self.lines), pytrace=False)
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def _read(self, deadline: float) -> bool:
        """Whether there was more to read in time."""
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._terminal, 1 << 16) if ready else b""
        except OSError:  # EIO: nobody has the other side any more
            return False
        self._stream.feed(data)
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.status is None:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)
