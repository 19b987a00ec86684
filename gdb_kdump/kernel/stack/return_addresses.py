"""Return addresses that tracing has replaced on stacks: by kretprobes, rethooks and the function_graph tracer.

On the stack stands a trampoline, and the function's own return address in a list of the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from gdb_kdump.errors import Corrupt, MissingDebugInfo
from gdb_kdump.kernel.lib.hash_tables import chain
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.layout.sched import graph_stack_is_words
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

# kernel/trace/fgraph.c: FGRAPH_FRAME_OFFSET_MASK: how many words below a descriptor its frame begins.
_FRAME_OFFSET_MASK = (1 << 10) - 1
_MOST_FRAMES = 1 << 16  # of one task; the kernel has 50, or a page of words

Replaced = tuple[int, int]
"""Where a replaced return address stands, and the function's own."""


class ReturnAddresses:
    """Knows those of one session; no task is looked at before a trampoline is met.  `gaps` is what was not readable."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.gaps = Gaps()
        self._graph = self._found(session.arch.graph_return)
        self._probes = self._found(session.arch.probe_return)
        self.trampolines = self._graph | self._probes

    def _found(self, names: tuple[str, ...]) -> frozenset[int]:
        found = map(self._session.debuginfo.find_address, names)
        return frozenset(addr for addr in found if addr is not None)

    def any(self) -> bool:
        """Whether a return address of any task is replaced."""
        return bool(self._slots)

    def is_replaced(self, slot: int) -> bool:
        """Whether that is so of the one at an address."""
        return slot in self._slots

    def own(self, slot: int, pc: int) -> int:
        """The function's own return address in place of a trampoline `pc` at `slot`; `pc` where none is known.

        A function that is both probed and traced has had it replaced twice.
        """
        for _ in range(2):
            pc = self._replaced.get((slot, pc), pc)
        return pc

    @cached_property
    def _slots(self) -> frozenset[int]:
        return frozenset(slot for slot, _ in self._replaced)

    @cached_property
    def _replaced(self) -> dict[tuple[int, int], int]:
        replaced: dict[tuple[int, int], int] = {}
        forms = [(form, trampolines) for form, trampolines in self._forms() if trampolines]
        for task in self._session.once(Tasks).all(Gaps()) if forms else ():
            for form, trampolines in forms:
                with walk("the return addresses that tracing replaced", self.gaps, lambda pair: pair[0]) as steps:
                    for slot, own in steps(form.of_task(task.addr)):
                        # With two probes of one function the list has a node each, of which one has the trampoline.
                        replaced.update({(slot, pc): own for pc in trampolines if own not in trampolines})
        return replaced

    def _forms(self) -> Iterator[tuple[ProbeList | GraphArray | GraphWords, frozenset[int]]]:
        """How this kernel keeps them, and what it has put in their place."""
        layout = self._session.layout
        for head, tag, path in (
            # (v5.18) rethook: Add a generic return hook
            ("rethooks", "rethook_node", "frame"),
            # (v5.11) kprobes: Remove kretprobe hash
            ("kretprobe_instances", "kretprobe_instance", "fp"),
        ):
            names = (f"task_struct.{head}", f"{tag}.llist", f"{tag}.ret_addr", f"{tag}.{path}")
            if self._has(*names):
                yield ProbeList(self._session, *names), self._probes
        if self._has("task_struct.ret_stack", "ftrace_ret_stack.ret", "ftrace_ret_stack.retp"):
            graph = GraphWords if graph_stack_is_words(layout) else GraphArray
            yield graph(self._session), self._graph

    def _has(self, *names: str) -> bool:
        try:
            return all(self._session.layout.find_member(name) is not None for name in names)
        except MissingDebugInfo:
            return False


class ProbeList:
    """A list of nodes in each task; kernel/trace/rethook.c: __rethook_find_ret_addr."""

    def __init__(self, session: Session, head: str, link: str, own: str, frame: str) -> None:
        self._session = session
        self._head = session.layout.offset(head)
        self._link = session.layout.offset(link)
        self._own, self._frame = own, frame

    def of_task(self, task: int) -> Iterator[Replaced]:
        """Those of a `struct task_struct *`; raises Unreadable, Corrupt."""
        for link in chain(self._session, self._session.memory.u64(task + self._head)):
            node = link - self._link
            yield self._session.pointer(node, self._frame), self._session.pointer(node, self._own)


class GraphArray:
    """An array of struct ftrace_ret_stack in each task; kernel/trace/fgraph.c before v6.11."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._members = session.layout.unpacker("ftrace_ret_stack", ("retp", "ret"))

    def of_task(self, task: int) -> Iterator[Replaced]:
        """Those of a `struct task_struct *`; raises Unreadable, Corrupt."""
        session = self._session
        last = session.number(task, "task_struct.curr_ret_stack")
        array = session.pointer(task, "task_struct.ret_stack")
        if not array or last < 0:
            return
        if last > _MOST_FRAMES:
            raise Corrupt(task, f"a task with {last} traced calls")
        for index in range(last + 1):
            slot, own = self._at(array + index * self._members.size)
            yield slot, own

    def _at(self, addr: int) -> tuple[int, int]:
        slot, own = self._members.unpack_from(*self._session.memory.block(addr, self._members.span))
        return slot, own


class GraphWords(GraphArray):
    """A stack of words in each task: frames, each followed by words of which the last says where it begins.

    kernel/trace/fgraph.c: get_ret_stack; (v6.11) function_graph: Convert ret_stack to a series of longs.
    """

    def of_task(self, task: int) -> Iterator[Replaced]:
        session = self._session
        top = session.number(task, "task_struct.curr_ret_stack")
        stack = session.pointer(task, "task_struct.ret_stack")
        if not stack:
            return
        if top > _MOST_FRAMES:
            raise Corrupt(task, f"a task with {top} words of traced calls")
        while top > 0:
            below = session.memory.u64(stack + 8 * (top - 1)) & _FRAME_OFFSET_MASK
            if not 0 < below < top:
                raise Corrupt(stack + 8 * (top - 1), "a traced call that does not say where its frame is")
            top -= 1 + below
            yield self._at(stack + 8 * top)
