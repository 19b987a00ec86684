"""The sk_buffs and sockets that a task's frames lead to, and what of them the dump does not have.

A pointer in a register is an sk_buff only if something says so: the object that it leads to reads as one.  One that is
still being made is none yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gdb_kdump.diagnosis.pointers import Pointer, registers_in, variables_in
from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import Sock, Socks
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import task_on
from gdb_kdump.kernel.stack.crash_path import backtrace
from gdb_kdump.kernel.stack.unwind import Trace
from gdb_kdump.records.skb import Skb
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address
from gdb_kdump.walks import Gaps, walk

# Structs that begin with a struct sock; include/linux/tcp.h, udp.h, include/net/af_unix.h, inet_sock.h.
_SOCK_TYPES = frozenset(
    ("sock", "inet_sock", "tcp_sock", "udp_sock", "raw_sock", "unix_sock", "netlink_sock", "packet_sock",
     "inet_connection_sock", "tcp6_sock", "udp6_sock", "raw6_sock")
)  # fmt: skip
# What makes an sk_buff, and has not finished while it is in the frames; net/core/skbuff.c.
_MAKERS = frozenset(
    ("__alloc_skb", "__build_skb", "__build_skb_around", "build_skb", "build_skb_around", "__napi_build_skb",
     "napi_build_skb", "__finalize_skb_around", "slab_build_skb", "__slab_build_skb", "kmalloc_reserve",
     "napi_skb_cache_get", "alloc_skb_for_msg")
)  # fmt: skip
# What takes one apart; in the frames of a CPU that was only stopped, it is half way.
_FREES = frozenset(
    ("skb_release_data", "skb_release_head_state", "skb_release_all", "skb_free_head", "kfree_skbmem", "__kfree_skb",
     "napi_skb_cache_put", "kfree_skb_list_reason", "skb_free_frag", "skb_attempt_defer_free", "skb_defer_free_flush")
)  # fmt: skip
_MAX_BUFFER, _MAX_TRUESIZE = 1 << 22, 1 << 28  # more than kmalloc() and any sk_buff's fragments give, in bytes
_MAX_FAMILY = 64  # include/linux/socket.h: AF_MAX is 46 today


@dataclass(frozen=True)
class Unread:
    """What was asked for and is not in the dump, at `addr`, and why; `role` says what it would be.

    `matters` where the case cannot be judged without: what the frames call an sk_buff, or one's shared info.
    """

    addr: int
    role: str
    why: Why
    matters: bool = False


@dataclass(frozen=True)
class FrameObjects:
    """What the frames of one task lead to: `skbs` (address, record, where from), innermost first.

    `missing` is the sk_buff that the innermost frame has of those that call something one, where the dump lacks it.
    """

    pointers: tuple[Pointer, ...] = ()
    """Typed ones first, each kind innermost first."""
    skbs: tuple[tuple[Skb, Pointer], ...] = ()
    unborn: frozenset[int] = frozenset()
    """Addresses of sk_buffs that were being made."""
    is_half_way: bool = False
    """Whether one was being made or taken apart."""
    unread: tuple[Unread, ...] = ()
    missing: Unread | None = None


class FramesOfCpus:
    """What the frames of the tasks that ran on one session's CPUs lead to."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._panic: FrameObjects | None = None
        self._others: list[FrameObjects] | None = None

    def of_panic(self) -> FrameObjects:
        """Those of the panic task; raises Unreadable, MissingDebugInfo where there is none."""
        if self._panic is None:
            trace = backtrace(self._session, self._session.once(Panic).task())
            self._panic = objects_in(self._session, trace)
        return self._panic

    def of_others(self, gaps: Gaps) -> list[FrameObjects]:
        """Those of the tasks on the other CPUs, or on all where none has panicked."""
        if self._others is None:
            panic = self._session.once(Panic)
            cpus = list(self._session.once(Running).tasks())
            rest = [cpu for cpu in cpus if not panic.happened() or cpu != panic.cpu()]
            self._others = []
            with walk("the frames of the CPUs", gaps) as steps:
                for cpu in steps(rest):
                    try:
                        self._others.append(self._of_cpu(cpu))
                    except (Unreadable, MissingDebugInfo) as error:
                        gaps.note(f"the frames of CPU {cpu}: {error}")
        return self._others

    def _of_cpu(self, cpu: int) -> FrameObjects:
        trace = backtrace(self._session, task_on(self._session, cpu))
        # An idle task has no variables that matter, but where something has interrupted it.
        is_idle = trace.task.pid == 0 and all(frame.kind in ("normal", "nmi") for frame in trace.frames)
        return objects_in(self._session, trace, with_variables=not is_idle)


def objects_in(session: Session, trace: Trace, with_variables: bool = True) -> FrameObjects:
    """What the frames of a task lead to; without its variables, which GDB has, what its registers do."""
    pointers = (variables_in(trace.task) if with_variables else []) + registers_in(trace.frames, session.arch)
    unborn = _unborn(pointers)
    finder = _Finder(session, any(frame.source.function in _MAKERS for frame in trace.frames))
    for pointer in pointers:
        if pointer.value not in unborn:
            finder.look_at(pointer)
    return FrameObjects(
        pointers=tuple(pointers),
        skbs=tuple(finder.skbs.values()),
        unborn=unborn,
        is_half_way=any(frame.source.function in _MAKERS | _FREES for frame in trace.frames),
        unread=tuple(finder.unread.values()),
        missing=finder.missing,
    )


@dataclass
class _Finder:
    """Takes the sk_buffs out of pointers, one after the other."""

    session: Session
    is_making: bool
    skbs: dict[int, tuple[Skb, Pointer]] = field(default_factory=dict)
    unread: dict[int, Unread] = field(default_factory=dict)
    missing: Unread | None = None

    def look_at(self, pointer: Pointer) -> None:
        """Keep what a pointer leads to, if it is an sk_buff."""
        addr, is_typed = pointer.value, pointer.type == "sk_buff"
        if addr in self.skbs or addr in self.unread or pointer.type not in ("", "sk_buff"):
            return
        allocation, skbs = self.session.once(Allocations).of(addr), self.session.once(Skbs)
        is_object = allocation.is_skb and addr - allocation.start in (0, skbs.size)
        if not is_object and (not is_typed or allocation.kind == "slab"):
            return
        try:
            skb = skbs.read_with_buffer(addr)
        except Unreadable as error:
            # What stood in memory that caches of several sorts share, only a type can tell.
            if is_typed or not allocation.is_shared:
                self._miss(pointer, error.why)
            return
        # The allocator has in its registers what it is about to hand out.
        is_handed_out = self.is_making and allocation.state != "allocated"
        if is_typed or (_reads_as_one(skb) and not is_handed_out):
            self.skbs[addr] = (skb, pointer)

    def _miss(self, pointer: Pointer, why: Why) -> None:
        matters = why is not Why.UNMAPPED
        unread = Unread(pointer.value, f"{pointer.name} of {pointer.function}, an sk_buff", why, matters)
        self.unread[pointer.value] = unread
        if matters and not self.skbs:
            self.missing = self.missing or unread


def _reads_as_one(skb: Skb) -> bool:
    """Whether what a register leads to could be an sk_buff by what it holds: a merged cache has other objects, too."""
    size = skb.end - skb.members.head
    return is_kernel_address(skb.members.head) and 0 < size <= _MAX_BUFFER and 0 < skb.members.truesize < _MAX_TRUESIZE


def _unborn(pointers: Iterable[Pointer]) -> frozenset[int]:
    """What a function that makes sk_buffs calls one."""
    return frozenset(pointer.value for pointer in pointers if pointer.type == "sk_buff" and pointer.function in _MAKERS)


def unread_of_skb(skb: Skb) -> Iterator[Unread]:
    """What of an sk_buff that can be read is not in the dump."""
    if isinstance(skb.shinfo, Unreadable) and skb.shinfo.why is not Why.UNMAPPED:
        yield Unread(skb.shinfo.addr, f"the shared info of sk_buff 0x{skb.addr:016x}", skb.shinfo.why, True)


def for_each_sock(
    session: Session, skbs: Iterable[Skb], pointers: Iterable[Pointer]
) -> Iterator[tuple[Sock | Unread, str]]:
    """The sockets of some sk_buffs, then those in the frames, innermost first, each with where it was found."""
    candidates = [(skb.members.sk, "the sk_buff's sk") for skb in skbs if skb.members.sk]
    candidates += [(p.value, f"{p.name} of {p.function}") for p in pointers if p.type in _SOCK_TYPES]
    met: set[int] = set()
    for addr, where in candidates:
        if addr in met or session.once(Allocations).of(addr).kind == "free":
            continue
        met.add(addr)
        try:
            sock = session.once(Socks).read(addr)
        except Unreadable as error:
            if error.why is not Why.UNMAPPED:
                yield Unread(addr, f"{where}, a socket", error.why), where
            continue
        if 0 < sock.family < _MAX_FAMILY:
            yield sock, where
