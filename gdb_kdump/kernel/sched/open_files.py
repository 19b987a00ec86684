"""The files that tasks hold open, by way of their file descriptors; fs/file.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.sched.tasks import Task, Tasks
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class OpenFile:
    """A `struct file *` that `task` has open as descriptor `fd`."""

    file: int
    fd: int
    task: Task


@dataclass(frozen=True)
class Descriptors:
    """A table of descriptors: the struct files_struct, the first task that uses it, and what is open.

    `table` is its array of `count` struct file *.
    """

    files: int
    task: Task
    table: int
    count: int
    open: tuple[OpenFile, ...]


class OpenFiles:
    """Finds the open files of one session, once; raises MissingDebugInfo."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        layout = session.layout
        self._files = layout.offset("task_struct.files")
        self._fdt = layout.offset("files_struct.fdt")
        self._table = layout.unpacker("fdtable", ("max_fds", "fd", "open_fds"))
        self._found: list[Descriptors] | None = None
        self._gaps = Gaps()

    def tables(self, gaps: Gaps) -> list[Descriptors]:
        """Every table of descriptors once; what is broken goes to `gaps`."""
        if self._found is None:
            self._gaps = Gaps()
            self._found = list(self._tables(self._gaps))
        gaps.note(*self._gaps)
        return self._found

    def all(self, gaps: Gaps) -> Iterator[OpenFile]:
        """Every open file, once for each table of descriptors that has it; what is broken goes to `gaps`."""
        for table in self.tables(gaps):
            yield from table.open

    def _tables(self, gaps: Gaps) -> Iterator[Descriptors]:
        met: set[int] = set()
        for task in self._session.once(Tasks).all(gaps):
            with gaps.about("") as broken:
                try:
                    files = self._memory.ptr(task.addr + self._files)
                    if not files or files in met:  # a zombie, or a thread of a process that was seen
                        continue
                    met.add(files)
                    yield self._read(task, files, broken)
                except (Unreadable, Corrupt) as error:
                    broken.note(f"the descriptors of PID {task.pid}: {error}")

    def _read(self, task: Task, files: int, gaps: Gaps) -> Descriptors:
        fdt = self._memory.ptr(files + self._fdt)
        count, table, bitmap = self._table.unpack_from(*self._memory.block(fdt, self._table.span))
        if count > walks.max_elements():
            raise Corrupt(fdt, f"a table of {count} descriptors (set kdump max-elements)")
        found = []
        for fd in _bits(self._memory.read(bitmap, (count + 63) // 64 * 8)):
            try:
                file = self._memory.ptr(table + 8 * fd)
            except Unreadable as error:
                gaps.note(f"descriptor {fd} of PID {task.pid}: {error}")
                continue
            if file:  # a descriptor that is reserved has no file yet
                found.append(OpenFile(file, fd, task))
        return Descriptors(files, task, table, count, tuple(found))


def _bits(bitmap: bytes) -> Iterator[int]:
    """The numbers of the bits that are set."""
    for at in range(0, len(bitmap), 8):
        word = int.from_bytes(bitmap[at : at + 8], "little")
        while word:
            yield 8 * at + (word & -word).bit_length() - 1
            word &= word - 1
