"""The names of caches that were merged into others, which only sysfs remembers; mm/slub.c: sysfs_slab_alias."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.session import Session

_MAX_NAME = 128
_MAX_NODES = 1 << 16


class SlabAliases:
    """Reads the links of /sys/kernel/slab of one session; there are none where the kernel has no CONFIG_SYSFS."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._names: dict[int, list[str]] | None = None

    def of(self, cache: int) -> tuple[str, ...]:
        """The other names of a `struct kmem_cache *`, sorted; a unique cache has none.  Raises nothing: no names."""
        try:
            if self._names is None:
                self._names = {}
                for name, target in self._links():
                    self._names.setdefault(target, []).append(name)
            if not self._names:
                return ()
            offset = self._layout.offset("kmem_cache.kobj") + self._layout.offset("kobject.sd")
            return tuple(sorted(self._names.get(self._memory.ptr(cache + offset), ())))
        except (Unreadable, MissingDebugInfo):
            return ()  # a convenience for people: without it, a cache has the one name that it has

    def _links(self) -> Iterator[tuple[str, int]]:
        """The links in the directory: name, and the struct kernfs_node that each leads to."""
        layout, memory = self._layout, self._memory
        kset = memory.ptr(self._session.debuginfo.address("slab_kset"))
        if not kset:
            return
        folder = memory.ptr(kset + layout.offset("kset.kobj") + layout.offset("kobject.sd"))
        is_link = layout.enumerators("kernfs_node_type").get("KERNFS_LINK", 4)
        name_at, flags_at = layout.offset("kernfs_node.name"), layout.offset("kernfs_node.flags")
        target_at = layout.offset("kernfs_node.symlink") + layout.offset("kernfs_elem_symlink.target_kn")
        for node in self._children(folder):
            if memory.u16(node + flags_at) & is_link:
                name = memory.cstring(memory.ptr(node + name_at), _MAX_NAME).decode("utf-8", "backslashreplace")
                yield name, memory.ptr(node + target_at)

    def _children(self, folder: int) -> Iterator[int]:
        """The nodes in a directory, in no order; fs/kernfs/dir.c: kernfs_link_sibling."""
        layout, memory = self._layout, self._memory
        root = folder + layout.offset("kernfs_node.dir") + layout.offset("kernfs_elem_dir.children")
        in_node = layout.offset("kernfs_node.rb")
        left_at, right_at = layout.offset("rb_node.rb_left"), layout.offset("rb_node.rb_right")
        pending = [self._session.pointer(root, "rb_root.rb_node")]
        seen: set[int] = set()
        while pending and len(seen) < _MAX_NODES:
            node = pending.pop()
            if not node or node in seen:
                continue
            seen.add(node)
            pending += [memory.ptr(node + left_at), memory.ptr(node + right_at)]
            yield node - in_node
