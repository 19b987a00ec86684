"""QEMU's machine protocol (QMP): stop a guest, dump it from outside, hit it with an NMI."""

import json
import socket
from pathlib import Path
from typing import Any

from errors import LabError

TIMEOUT = 240


class Monitor:
    """QEMU's end of a Unix socket; `what` is named where it refuses."""

    def __init__(self, path: Path, what: str) -> None:
        self._what = what
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rw")
        self._stream.readline()  # its greeting
        self.ask("qmp_capabilities")

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, command: str, **arguments: Any) -> None:
        """Has a command done; events that come in between are nothing to us."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer = json.loads(self._stream.readline())
            if "error" in answer:
                raise LabError(self._what, f"QEMU's {command}: {answer['error']['desc']}")
            if "return" in answer:
                return

    def dump(self, path: Path, form: str, paging: bool = False) -> None:
        """Has the memory written to a file that everybody may read."""
        self.ask("dump-guest-memory", paging=paging, protocol=f"file:{path}", format=form)
        path.chmod(0o644)
