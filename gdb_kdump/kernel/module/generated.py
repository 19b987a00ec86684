"""Code that the kernel made while it ran, which no file has: BPF's, ftrace's trampolines, kprobes' copies."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.session import Session
from gdb_kdump.text import escape
from gdb_kdump.walks import Gaps, walk

_FTRACE = "ftrace_trampoline"  # kernel/trace/ftrace.c: FTRACE_TRAMPOLINE_SYM
_SAVES_REGISTERS = "FTRACE_OPS_FL_SAVE_REGS"
_KPROBE_CACHES = ("kprobe_insn_slots", "kprobe_optinsn_slots")


@dataclass(frozen=True)
class Generated:
    """A stretch of such code from `start` up to `end`, with the `name` that /proc/kallsyms has for it."""

    start: int
    end: int
    name: str
    is_trampoline: bool = False
    """Whether it is a copy of ftrace's own code; all else keeps frame pointers."""
    saves_registers: bool = False
    """Of a trampoline: whether it makes a whole struct pt_regs."""


class GeneratedCode:
    """Finds such code in one session; nothing is read before an address is in no known text.

    `gaps` is what could not be read of it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.gaps = Gaps()
        self._all: list[Generated] | None = None
        self._starts: list[int] = []

    def find(self, addr: int) -> Generated | None:
        """The code that an address lies in, or None."""
        if self._all is None:
            self._all = sorted(self._read(), key=lambda code: code.start)
            self._starts = [code.start for code in self._all]
        number = bisect_right(self._starts, addr) - 1
        return self._all[number] if number >= 0 and addr < self._all[number].end else None

    def _read(self) -> list[Generated]:
        code: list[Generated] = []
        sources: tuple[tuple[str, Callable[[], Iterator[Generated]]], ...] = (
            ("the list of BPF programs", self._of_bpf),
            ("the list of ftrace_ops", self._of_ftrace),
            ("the pages of kprobes", self._of_kprobes),
        )
        for what, read in sources:
            with walk(what, self.gaps, lambda one: one.start) as steps:
                for one in steps(read()):
                    code.append(one)
        return code

    def _has(self, *members: str) -> bool:
        """Whether the types have these members: a kernel that lacks one has no such code, or keeps it otherwise."""
        try:
            return all(self._session.layout.find_member(name) is not None for name in members)
        except MissingDebugInfo:
            return False

    def _of_bpf(self) -> Iterator[Generated]:
        """kernel/bpf/core.c: bpf_kallsyms; before v5.7 without struct bpf_ksym, and not read."""
        head = self._session.debuginfo.find_address("bpf_kallsyms")
        if head is None or not self._has("bpf_ksym.start", "bpf_ksym.name"):
            return
        layout, memory = self._session.layout, self._session.memory
        link, name = layout.offset("bpf_ksym.lnode"), layout.member("bpf_ksym.name")
        bounds = layout.unpacker("bpf_ksym", ("start", "end"))
        for node in list_for_each(self._session, head):
            start, end = bounds.unpack_from(*memory.block(node - link, bounds.span))
            text = memory.cstring(node - link + name.offset, name.size)
            yield Generated(start, end, escape(text.decode("utf-8", "backslashreplace")))

    def _of_ftrace(self) -> Iterator[Generated]:
        """kernel/trace/ftrace.c: ftrace_ops_trampoline."""
        head = self._session.debuginfo.find_address("ftrace_ops_list")
        if head is None or not self._has("ftrace_ops.trampoline", "ftrace_ops.trampoline_size"):
            return
        flag = self._session.debuginfo.enum_with(_SAVES_REGISTERS).get(_SAVES_REGISTERS, 0)
        members = self._session.layout.unpacker("ftrace_ops", ("next", "flags", "trampoline", "trampoline_size"))
        ops = self._session.memory.u64(head)
        met: set[int] = set()
        while ops:
            if ops in met:
                raise Corrupt(ops, "the list of ftrace_ops runs in a circle")
            met.add(ops)
            block = self._session.memory.block(ops, members.span)
            ops, flags, start, size = members.unpack_from(*block)
            if start and size:
                yield Generated(start, start + size, _FTRACE, True, bool(flags & flag))

    def _of_kprobes(self) -> Iterator[Generated]:
        """kernel/kprobes.c: kprobe_cache_get_kallsym."""
        if not self._has("kprobe_insn_cache.sym", "kprobe_insn_page.insns"):
            return
        session, layout = self._session, self._session.layout
        for name in _KPROBE_CACHES:
            cache = session.debuginfo.find_address(name)
            if cache is None:
                continue
            symbol = session.memory.cstring(session.pointer(cache, "kprobe_insn_cache.sym")).decode("ascii", "replace")
            for node in list_for_each(session, cache + layout.offset("kprobe_insn_cache.pages")):
                start = session.pointer(node - layout.offset("kprobe_insn_page.list"), "kprobe_insn_page.insns")
                yield Generated(start, start + session.arch.page_size, escape(symbol))
