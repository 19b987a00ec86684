"""Sockets that tasks hold open, by way of their file descriptors; fs/file.c, net/socket.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.sched.tasks import Task, Tasks
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
        self._session = session
        self._memory = session.memory
        layout = session.layout
        self._files = layout.offset("task_struct.files")
        self._fdt = layout.offset("files_struct.fdt")
        self._table = layout.unpacker("fdtable", ("max_fds", "fd", "open_fds"))
        self._file = layout.unpacker("file", ("f_op", "private_data"))
        self._socket_sk = layout.offset("socket.sk")
        self._operations = session.debuginfo.address("socket_file_ops")

    def all(self, gaps: Gaps) -> Iterator[OpenSock]:
        """Every open socket once for each table of descriptors that has it; what is broken goes to `gaps`.

        A table belongs to the first task that uses it.
        """
        met: set[int] = set()
        for task in self._session.once(Tasks).all(gaps):
            with gaps.about("") as broken:
                try:
                    files = self._memory.ptr(task.addr + self._files)
                    if not files or files in met:  # a zombie, or a thread of a process that was seen
                        continue
                    met.add(files)
                    yield from self._open_socks(task, files, broken)
                except (Unreadable, Corrupt) as error:
                    broken.note(f"the descriptors of PID {task.pid}: {error}")

    def _open_socks(self, task: Task, files: int, gaps: Gaps) -> Iterator[OpenSock]:
        fdt = self._memory.ptr(files + self._fdt)
        count, table, bitmap = self._table.unpack_from(*self._memory.block(fdt, self._table.span))
        if count > walks.max_elements():
            raise Corrupt(fdt, f"a table of {count} descriptors (set kdump max-elements)")
        for fd in _bits(self._memory.read(bitmap, (count + 63) // 64 * 8)):
            try:
                file = self._memory.ptr(table + 8 * fd)
                sock = self._sock_of(file) if file else 0  # a descriptor that is reserved has no file yet
            except Unreadable as error:
                gaps.note(f"descriptor {fd} of PID {task.pid}: {error}")
                continue
            if sock:
                yield OpenSock(sock, file, fd, task)

    def _sock_of(self, file: int) -> int:
        """The `struct sock *` of a `struct file *`, or 0 where it is none of a socket; net/socket.c: sock_from_file."""
        operations, private = self._file.unpack_from(*self._memory.block(file, self._file.span))
        return self._memory.ptr(private + self._socket_sk) if operations == self._operations and private else 0


def _bits(bitmap: bytes) -> Iterator[int]:
    """The numbers of the bits that are set."""
    for at in range(0, len(bitmap), 8):
        word = int.from_bytes(bitmap[at : at + 8], "little")
        while word:
            yield 8 * at + (word & -word).bit_length() - 1
            word &= word - 1
