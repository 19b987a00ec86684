"""From one object to those that its members point to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.what.things import Thing, Things
from gdb_kdump.layout.members import is_pointer, is_struct
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

# The members that are followed, by the tag of their struct; those that a kernel lacks are passed over.
_MEMBERS: dict[str, str] = {
    "task_struct": "signal sighand files fs mm nsproxy real_cred cred thread_pid io_context stack_vm_area",
    "signal_struct": "tty",
    "files_struct": "fdt",
    "fs_struct": "root.dentry root.mnt pwd.dentry pwd.mnt",
    "mm_struct": "exe_file pgd",
    "nsproxy": "uts_ns ipc_ns mnt_ns pid_ns_for_children time_ns cgroup_ns",
    "cred": "user user_ns group_info",
    "file": "f_path.dentry f_path.mnt f_inode",
    "dentry": "d_inode d_sb",
    "inode": "i_sb i_pipe",
    "sock": "sk_socket sk_dst_cache sk_filter sk_wq sk_peer_pid sk_peer_cred",
    "socket": "file",
    "net_device": "ip_ptr ip6_ptr qdisc",
}


# Those that lead from an object to what it belongs to.
_UPWARD = {
    "vm_area_struct": "vm_mm",
    "inode": "i_sb",
    "dentry": "d_sb",
    "mount": "mnt.mnt_sb",
    "kernfs_node": "parent",
    "anon_vma_chain": "vma",
    "proc_dir_entry": "parent",
    "sock": "sk_socket",
}


@dataclass(frozen=True)
class _Pointer:
    path: str
    offset: int
    tag: str  # of what it points to
    size: int


class Pointers:
    """Follows the members of objects of one session into a set of things."""

    def __init__(self, session: Session, things: Things) -> None:
        self._session = session
        self._things = things
        self._known: dict[str, list[_Pointer]] = {}
        self._sizes: dict[str, int] = {}

    def size(self, tag: str) -> int:
        """The size of `struct tag`, 0 where the types lack it."""
        if tag not in self._sizes:
            try:
                self._sizes[tag] = self._session.layout.size(tag)
            except MissingDebugInfo:
                self._sizes[tag] = 0
        return self._sizes[tag]

    def root(self, tag: str, addr: int, text: str = "") -> Thing:
        """The `struct tag` at an address, with all that its members lead to."""
        thing, _ = self._things.add(tag, addr, self.size(tag), text)
        self._follow([thing])
        return thing

    def alone(self, tag: str, addr: int) -> Thing:
        """A `struct tag` that nothing leads to, with what it says itself that it belongs to; in no set of things."""
        thing = Thing(tag, addr, self.size(tag), note=", by its cache: nothing that was walked points to it")
        for pointer in self._resolved(tag, _UPWARD.get(tag, "").split()):
            try:
                above = self._session.memory.ptr(addr + pointer.offset)
            except Unreadable:
                continue
            if is_kernel_address(above):
                known = self._things.get(pointer.tag, above) or Thing(pointer.tag, above, pointer.size)
                thing.add(f"; its {pointer.path} is", known)
        return thing

    def under(self, tag: str, addr: int, relation: str, above: Thing) -> Thing:
        """The same of one that `above` points to."""
        thing, is_new = self._things.add(tag, addr, self.size(tag))
        thing.add(relation, above)
        if is_new:
            self._follow([thing])
        return thing

    def _follow(self, pending: list[Thing]) -> None:
        while pending:
            thing = pending.pop()
            for pointer in self._pointers(thing.what):
                try:
                    addr = self._session.memory.ptr(thing.addr + pointer.offset)
                except Unreadable:
                    continue  # it is in no dump, or there is no such object: whoever is asked about it says so
                if not is_kernel_address(addr):
                    continue
                below, is_new = self._things.add(pointer.tag, addr, pointer.size)
                below.add(f", {pointer.path} of", thing)
                if is_new:
                    pending.append(below)

    def _pointers(self, tag: str) -> list[_Pointer]:
        if tag not in self._known:
            self._known[tag] = list(self._resolved(tag, _MEMBERS.get(tag, "").split()))
        return self._known[tag]

    def _resolved(self, tag: str, paths: Iterable[str]) -> Iterator[_Pointer]:
        for path in paths:
            try:
                member = self._session.layout.find_member(f"{tag}.{path}")
            except MissingDebugInfo:
                return
            if member is None or not is_pointer(member.type):
                continue
            target = member.type.strip_typedefs().target().strip_typedefs()
            if is_struct(target) and target.tag:
                yield _Pointer(path, member.offset, str(target.tag), int(target.sizeof))
            else:
                yield _Pointer(path, member.offset, path.rpartition(".")[2], 0)
