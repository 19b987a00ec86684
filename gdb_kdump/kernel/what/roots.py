"""What is found from the kernel's own roots: tasks with their files, sockets, network namespaces and devices."""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.all_socks import AllSocks
from gdb_kdump.kernel.net.devices import NetDevices
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.sched.open_files import OpenFiles
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.kernel.what.pointers import Pointers
from gdb_kdump.kernel.what.things import Thing, Things
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

_POINTER = 8  # bytes


class Roots:
    """The things of one session, found once; `gaps` is what could not be followed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.things = Things()
        self.gaps = Gaps()
        self.socks: list[Thing] = []
        """Every struct sock."""
        self._pointers = Pointers(session, self.things)
        for what, find in (
            ("the tasks", self._tasks),
            ("the open files", self._files),
            ("the network namespaces", self._nets),
            ("the sockets", self._socks),
        ):
            self._try(what, find)

    def _try(self, what: str, find: Callable[[], None]) -> None:
        try:
            find()
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            self.gaps.note(f"{what}: {error}")

    def sock(self, addr: int) -> Thing:
        """The `struct sock *` as a thing, found before or not."""
        return self.things.get("sock", addr) or self._pointers.root("sock", addr)

    def alone(self, tag: str, addr: int) -> Thing:
        """A `struct tag` that none of them leads to."""
        return self._pointers.alone(tag, addr)

    def under(self, tag: str, addr: int, relation: str, above: Thing) -> Thing:
        """The `struct tag` at an address to which one of them points."""
        return self._pointers.under(tag, addr, relation, above)

    def _tasks(self) -> None:
        with walk("the tasks", self.gaps, lambda task: task.addr) as steps:
            for task in steps(self._session.once(Tasks).all(self.gaps)):
                self._pointers.root("task_struct", task.addr)

    def _files(self) -> None:
        for table in self._session.once(OpenFiles).tables(self.gaps):
            task = self._pointers.root("task_struct", table.task.addr)
            files = self._pointers.under("files_struct", table.files, ", files of", task)
            array, _ = self.things.add("array of descriptors", table.table, _POINTER * table.count)
            array.add(" of", files)
            for opened in table.open:
                self._pointers.under("file", opened.file, f", descriptor {opened.fd} of", task)

    def _nets(self) -> None:
        for net in self._session.once(Nets).all(self.gaps):
            self._pointers.root("net", net)
        devices = self._session.once(NetDevices)
        for device in devices.all(self.gaps):
            thing = self._pointers.under(
                "net_device", device.addr, ", a device of", self._pointers.root("net", devices.net(device))
            )
            for queue in devices.tx_queues(device):
                self._pointers.under("netdev_queue", queue, ", a queue of", thing)
            for napi in devices.napis(device):
                self._pointers.under("napi_struct", napi, ", a NAPI context of", thing)

    def _socks(self) -> None:
        for info in self._session.once(AllSocks).all(self.gaps):
            sock = self._pointers.root("sock", info.sock.addr)
            self.socks.append(sock)
            if info.opened is not None:
                # The kernel's own way there is file, socket, sk; a struct socket may be gone whose file is not.
                file = self.things.get("file", info.opened.file)
                if file is not None and info.sock.is_full:
                    sock.add(", the socket of", file)
