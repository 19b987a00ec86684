"""What an object is called: a task by its PID, a socket by its ends, a file by its path."""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.net.conntrack import Conntracks
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.kernel.net.sock_names import SockNames
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.layout.members import path_at
from gdb_kdump.records.owners import at
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16

_DEEPEST_PATH = 64
_LONGEST_NAME = 255  # include/uapi/linux/limits.h: NAME_MAX


class Names:
    """Names the objects of one session; what cannot be read leaves only the tag and the address."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._paths: dict[tuple[str, int], str] = {}
        self._namers: dict[str, Callable[[int], str]] = {
            "task_struct": self._task,
            "sock": self._sock,
            "file": self._file,
            "dentry": self._path,
            "inode": self._inode,
            "super_block": self._file_system,
            "net": self._net,
            "net_device": self._net_device,
            "vm_area_struct": self._vm_area,
            "kernfs_node": self._kernfs_node,
            "nf_conn": lambda addr: session.once(Conntracks).words(addr),
            "page_pool": lambda addr: self._net_device(session.pointer(addr, "page_pool.netdev")),
            "socket_alloc": lambda addr: self._inode(addr + session.layout.offset("socket_alloc.vfs_inode")),
            "shmem_inode_info": lambda addr: self._inode(addr + session.layout.offset("shmem_inode_info.vfs_inode")),
            "proc_inode": lambda addr: self._inode(addr + session.layout.offset("proc_inode.vfs_inode")),
        }

    def at(self, what: str, addr: int, offset: int) -> str:
        """The words for a place in the `struct what` at an address: its member, and what the struct is called."""
        member = self._member(what, offset) if offset else ""
        name = self._name(what, addr)
        return at(f"{what} {hex16(addr)}", offset, f" .{member}" * bool(member) + f" ({name})" * bool(name))

    def brief(self, what: str, addr: int) -> str:
        """The words for an object that others lead to: a task needs no address."""
        if what == "task_struct":
            return self._name(what, addr) or self.at(what, addr, 0)
        return self.at(what, addr, 0)

    def function(self, pc: int) -> str:
        """The function that a return address leads into, with its offset and its module."""
        frame = self._session.once(Source).frames(pc, True)[-1]
        module = f" [{escape(frame.module)}]" if frame.module else ""
        name = f"{frame.function}+{frame.offset:#x}" if frame.function and frame.offset is not None else hex16(pc)
        return f"{name}{module}"

    def _member(self, what: str, offset: int) -> str:
        if (what, offset) not in self._paths:
            struct = self._session.layout.find_struct(what) if what.isidentifier() else None
            self._paths[what, offset] = path_at(struct, offset) if struct is not None else ""
        return self._paths[what, offset]

    def _name(self, what: str, addr: int) -> str:
        namer = self._namers.get(what)
        try:
            return namer(addr) if namer is not None else ""
        except (Unreadable, Corrupt, MissingDebugInfo):
            return ""

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
        return f"{escape(names.protocol(addr))}{state}{ends}"

    def _file(self, addr: int) -> str:
        return self._path(self._session.pointer(addr, "file.dentry"))

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
        return f"number {number} of {kind}"

    def _file_system(self, super_block: int) -> str:
        session = self._session
        kind = session.pointer(session.pointer(super_block, "super_block.s_type"), "file_system_type.name")
        member = session.layout.member("super_block.s_id")
        device = escape(self._memory.cstring(super_block + member.offset, member.size))
        name = escape(self._memory.cstring(kind, _LONGEST_NAME))
        return name if device == name else f"{name} {device}"

    def _net(self, addr: int) -> str:
        inum = self._session.once(Nets).inum(addr)
        return f"net:[{inum}]" if inum is not None else ""

    def _net_device(self, addr: int) -> str:
        member = self._session.layout.member("net_device.name")
        return escape(self._memory.cstring(addr + member.offset, member.size))

    def _vm_area(self, addr: int) -> str:
        start, end = (self._session.number(addr, f"vm_area_struct.{name}") for name in ("vm_start", "vm_end"))
        return f"{start:#x}-{end:#x}"

    def _kernfs_node(self, addr: int) -> str:
        return escape(self._memory.cstring(self._session.pointer(addr, "kernfs_node.name"), _LONGEST_NAME))
