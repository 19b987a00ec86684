"""What an object is called: a task by its PID, a socket by its ends, a file by its path."""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.kernel.net.sock_names import SockNames
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16

_DEEPEST_PATH = 64
_LONGEST_NAME = 255  # include/uapi/linux/limits.h: NAME_MAX


class Names:
    """Names the objects of one session; what cannot be read leaves only the tag and the address."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._namers: dict[str, Callable[[int], str]] = {
            "task_struct": self._task,
            "sock": self._sock,
            "file": self._file,
            "dentry": self._dentry,
            "inode": self._inode,
            "super_block": self._super_block,
            "net": self._net,
            "net_device": self._net_device,
            "vm_area_struct": self._vm_area,
            "kernfs_node": self._kernfs_node,
        }

    def of(self, what: str, addr: int) -> str:
        """The words for the `struct what` at an address."""
        namer = self._namers.get(what)
        if namer is not None:
            try:
                return namer(addr)
            except (Unreadable, Corrupt, MissingDebugInfo):
                pass
        return f"{what} {hex16(addr)}"

    def _task(self, addr: int) -> str:
        task = self._session.once(Tasks).read(addr)
        return f"PID {task.pid} ({escape(task.comm)})"

    def _sock(self, addr: int) -> str:
        names, sock = self._session.once(SockNames), self._session.once(Socks).read(addr)
        ends = ""
        try:
            local, peer = names.ends(sock)
            ends = "".join((f" {escape(local)}" if local else "", f" -> {escape(peer)}" if peer else ""))
        except (Unreadable, MissingDebugInfo):
            pass  # the protocol and the state are something
        state = f" {names.state(sock)}" if sock.is_tcp or not sock.is_full else ""
        return f"sock {hex16(addr)} ({escape(names.protocol(addr))}{state}{ends})"

    def _file(self, addr: int) -> str:
        path = self._path(self._session.pointer(addr, "file.dentry"))
        return f"file {hex16(addr)}" + (f" ({path})" if path else "")

    def _dentry(self, addr: int) -> str:
        return f"dentry {hex16(addr)} ({self._path(addr)})"

    def _path(self, dentry: int) -> str:
        """The path of a `struct dentry *` within its file system; fs/d_path.c: dentry_path_raw."""
        session, parts = self._session, list[str]()
        for _ in range(_DEEPEST_PATH):
            name = self._memory.cstring(session.pointer(dentry, "dentry.name"), _LONGEST_NAME)
            parent = session.pointer(dentry, "dentry.d_parent")
            parts.append(escape(name))
            if parent in (0, dentry):
                break
            dentry = parent
        root = parts.pop() if parts else ""
        return "/".join(["", *reversed(parts)]) if parts else root

    def _inode(self, addr: int) -> str:
        number = self._session.number(addr, "inode.i_ino")
        kind = self._file_system(self._session.pointer(addr, "inode.i_sb"))
        return f"inode {hex16(addr)} (number {number} of {kind})"

    def _super_block(self, addr: int) -> str:
        return f"super_block {hex16(addr)} ({self._file_system(addr)})"

    def _file_system(self, super_block: int) -> str:
        session = self._session
        kind = session.pointer(session.pointer(super_block, "super_block.s_type"), "file_system_type.name")
        member = session.layout.member("super_block.s_id")
        device = escape(self._memory.cstring(super_block + member.offset, member.size))
        name = escape(self._memory.cstring(kind, _LONGEST_NAME))
        return name if device == name else f"{name} {device}"

    def _net(self, addr: int) -> str:
        inum = self._session.once(Nets).inum(addr)
        return f"net {hex16(addr)}" + (f" (net:[{inum}])" if inum is not None else "")

    def _net_device(self, addr: int) -> str:
        member = self._session.layout.member("net_device.name")
        return f"net_device {hex16(addr)} ({escape(self._memory.cstring(addr + member.offset, member.size))})"

    def _vm_area(self, addr: int) -> str:
        start, end = (self._session.number(addr, f"vm_area_struct.{name}") for name in ("vm_start", "vm_end"))
        return f"vm_area_struct {hex16(addr)} ({start:#x}-{end:#x})"

    def _kernfs_node(self, addr: int) -> str:
        name = self._memory.cstring(self._session.pointer(addr, "kernfs_node.name"), _LONGEST_NAME)
        return f"kernfs_node {hex16(addr)} ({escape(name)})"
