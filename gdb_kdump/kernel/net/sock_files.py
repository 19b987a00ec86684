"""Sockets that tasks hold open, by way of their file descriptors; net/socket.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.sched.open_files import OpenFiles
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class OpenSock:
    """A `struct sock *` that `task` has open as descriptor `fd`; `file` is the struct file *."""

    sock: int
    file: int
    fd: int
    task: Task


class SockFiles:
    """Finds the open sockets of one session."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._files = session.once(OpenFiles)
        self._file = session.layout.unpacker("file", ("f_op", "private_data"))
        self._socket_sk = session.layout.offset("socket.sk")
        self._operations = session.debuginfo.address("socket_file_ops")

    def all(self, gaps: Gaps) -> Iterator[OpenSock]:
        """Every open socket once for each table of descriptors that has it; what is broken goes to `gaps`.

        A table belongs to the first task that uses it.
        """
        with gaps.about("") as broken:
            for opened in self._files.all(gaps):
                try:
                    sock = self._sock_of(opened.file)
                except Unreadable as error:
                    broken.note(f"descriptor {opened.fd} of PID {opened.task.pid}: {error}")
                    continue
                if sock:
                    yield OpenSock(sock, opened.file, opened.fd, opened.task)

    def _sock_of(self, file: int) -> int:
        """The `struct sock *` of a `struct file *`, or 0 where it is none of a socket; net/socket.c: sock_from_file."""
        operations, private = self._file.unpack_from(*self._memory.block(file, self._file.span))
        return self._memory.ptr(private + self._socket_sk) if operations == self._operations and private else 0
