"""Who has a page, where its struct page says so, or where it is mapped: a page_pool, a page table, a task's stack."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.mm.pages import Page
from gdb_kdump.kernel.mm.vmap_areas import VmapAreas
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16, is_kernel_address
from gdb_kdump.walks import Gaps

_SIGNATURE = 0x40  # include/linux/poison.h: PP_SIGNATURE, which is added to a poison


class PageUsers:
    """Tells it of the pages of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        layout = session.layout
        self._signature, self._pool = (layout.find_member(f"page.{name}") for name in ("pp_magic", "pp"))
        self._mapping = layout.find_member("page.mapping")
        self._stacks: dict[int, str] | None = None

    def pool(self, page: Page) -> int | None:
        """The `struct page_pool *` of a page that has its mark, or None; raises Unreadable.

        include/linux/mm.h: page_pool_page_is_pp.
        """
        if self._signature is None or self._pool is None or page.kind not in ("", "compound"):
            return None
        signature = self._memory.ptr(page.head + self._signature.offset)
        # The lowest two bits and, since v6.16, those above the signature count something; a poison is no address.
        if signature & 0xFC != _SIGNATURE or signature >> 48 in (0, 0xFFFF):
            return None
        return self._memory.ptr(page.head + self._pool.offset)

    def wrong_for_packets(self, page: Page) -> str:
        """What a page is that no packet can be in, after "its page is"; "" for one that may be; raises Unreadable."""
        if page.kind == "table":
            return "a page table"
        pool = self.pool(page)
        if pool is not None:
            return self._wrong_pool(pool)
        if page.kind or page.order or (self._mapping and self._memory.ptr(page.head + self._mapping.offset)):
            return ""
        return self._stack(page.addr)

    def _wrong_pool(self, pool: int) -> str:
        """Why a page_pool is none; net/core/page_pool.c: page_pool_create_percpu has it from kmalloc()."""
        what = f"marked as one of page_pool {hex16(pool)}"
        if not is_kernel_address(pool) or pool & 7:
            return f"{what}, which is no address of one"
        allocation = self._session.once(Allocations).of(pool)
        if allocation.kind == "free":
            return f"{what}, which was freed"
        if allocation.kind != "slab":
            return ""
        if allocation.state == "free":
            return f"{what}, which was freed"
        if allocation.start != pool:
            return f"{what}, which is in the middle of an object of {escape(allocation.cache)}"
        return ""

    def _stack(self, page: int) -> str:
        """The task whose stack has a `struct page *`, where stacks are areas of vmalloc."""
        if self._stacks is None:
            self._stacks = {}
            try:
                areas = self._session.once(VmapAreas)
                for task in self._session.once(Tasks).all(Gaps()):
                    area = areas.find(task.stack, Gaps()) if task.stack else None
                    for mapped in areas.pages(area) if area is not None else ():
                        self._stacks[mapped] = f"one of the stack of PID {task.pid} ({escape(task.comm)})"
            except (Unreadable, MissingDebugInfo):
                pass  # then it is not known whose stacks have which pages
        return self._stacks.get(page, "")
