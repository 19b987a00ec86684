"""Reads sk_buffs and sockets as far as their rules need it, and has them judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.mm.pages import PAGE_SHIFT
from gdb_kdump.kernel.mm.slab import allocator
from gdb_kdump.kernel.net.holders import Holders
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import AF_NETLINK, AF_PACKET, AF_UNIX, Sock, Socks
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.records.allocation import Hole
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Held
from gdb_kdump.records.slab import SlabObject
from gdb_kdump.records.sock import Owner, Segment, SockRecord
from gdb_kdump.rules import judge_members, judge_queue, judge_shinfo, judge_sock
from gdb_kdump.rules.findings import CORRUPT, Finding, verdict
from gdb_kdump.rules.slab import judge_slab
from gdb_kdump.session import Session

T = TypeVar("T")

_ACCOUNTS = ("sk_wmem_queued", "wmem_alloc", "rmem_alloc", "sk_forward_alloc")
_WITH_DESTRUCTOR = {"destructor": 1}  # what is assumed where the types do not say
_KINDS = {AF_UNIX: "unix", AF_NETLINK: "netlink", AF_PACKET: "packet"}
_READERS = ("tcp", "netlink", "packet")  # those who are charged by sk_buffs that have a destructor
_SEGMENTS = ("write", "rtx", "receive", "ofo")


@dataclass(frozen=True)
class Checked:
    """What was judged and what was found.

    `holes` could not be judged because the dump does not have them; `missing` says what else could not, as the types
    lack something, or the user stopped it.  `bad_shinfos` are the sk_buffs (addresses) whose shared info is not sound.
    """

    skbs: int
    queues: int
    findings: tuple[Finding, ...]
    holes: tuple[Hole, ...]
    missing: tuple[str, ...] = ()
    bad_shinfos: tuple[int, ...] = ()

    @property
    def verdict(self) -> str:
        """What it amounts to; "unknown" when all that was asked for is missing from the dump, or some for the types."""
        judged = not self.holes or len(self.holes) < self.skbs + self.queues
        return verdict(self.findings, judged=judged and not self.missing)

    def __add__(self, other: Checked) -> Checked:
        findings = _merged(self.findings, other.findings)
        missing, bad = _merged(self.missing, other.missing), _merged(self.bad_shinfos, other.bad_shinfos)
        return Checked(
            self.skbs + other.skbs, self.queues + other.queues, findings, self.holes + other.holes, missing, bad
        )


@dataclass(frozen=True)
class Verdict:
    """What is wrong with an sk_buff, by what gave it: its members, its shared info, the slabs that it stands in.

    `hole` is what of it the dump does not have.
    """

    members: tuple[Finding, ...] = ()
    shinfo: tuple[Finding, ...] = ()
    slabs: tuple[Finding, ...] = ()
    hole: Hole | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.members + self.shinfo + self.slabs


def _merged(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(first + second)) if first and second else first or second


_SOUND = Verdict()


class Checks:
    """Has sk_buffs and sockets judged, for one command.

    What it keeps are answers that would be the same again: a verdict never depends on what was asked before.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._skbs = session.once(Skbs)
        self._socks = session.once(Socks)
        self._sk = session.layout.unpacker("sk_buff", ("sk", "destructor"), _WITH_DESTRUCTOR)
        self._len = session.layout.unpacker("sk_buff", ("len",))
        self._numbers = _tcp_numbers(session)
        self._charge = session.layout.unpacker("sk_buff", ("truesize", "destructor"), _WITH_DESTRUCTOR)
        # An sk_buff with this destructor is charged to sk_omem_alloc: net/core/skbuff.c: msg_zerocopy_alloc.
        self._omem = session.debuginfo.find_address("sock_ofree")
        self._accounts: Unpacker | None = None
        self._slabs: dict[int, tuple[Finding, ...]] = {}  # by the address of the slab
        self._pages: dict[int, tuple[Finding, ...]] = {}  # the same by the number of a page: it belongs to one slab

    def skb(self, addr: int, held: Held | None = None) -> Verdict:
        """What is wrong with the sk_buff at an address, with its buffer and with the slabs that hold them.

        Where it is `held` is looked for where that is not known, and a rule asks.
        """
        where = partial(self._held, addr) if held is None else lambda: held
        try:
            record = self._skbs.read_with_places(addr, where)
        except Unreadable as error:
            if error.why is not Why.UNMAPPED:
                return Verdict(hole=Hole(error.addr, error.why))
            message = "there is no memory of this kernel"
            return Verdict((Finding("skb.address", addr, "", CORRUPT, "a struct sk_buff *", "unmapped", message),))
        members, shinfo = judge_members(record), judge_shinfo(record)
        slabs = self._slab(addr)
        for finding in self._slab(record.head):
            if finding not in slabs:
                slabs += (finding,)
        if not (members or shinfo or slabs or record.hole):
            return _SOUND
        return Verdict(tuple(members), tuple(shinfo), slabs, record.hole)

    def _held(self, addr: int) -> Held:
        return self._session.once(Holders).of(addr)

    def _slab(self, addr: int) -> tuple[Finding, ...]:
        """What is wrong with the slab that an address lies in: its freelists, and the guards of all its objects."""
        findings = self._pages.get(addr >> PAGE_SHIFT)
        if findings is not None:
            return findings
        try:
            entry = allocator(self._session).find_object(addr)
        except (Unreadable, MissingDebugInfo, Corrupt):
            return ()  # without its slab, memory is neither sound nor corrupt
        if entry is None:
            return ()
        findings = self._slabs.get(entry.slab.addr)
        if findings is None:
            findings = self._slabs[entry.slab.addr] = self._judge_slab(entry)
        self._pages[addr >> PAGE_SHIFT] = findings
        return findings

    def _judge_slab(self, entry: SlabObject) -> tuple[Finding, ...]:
        slab, findings = entry.slab, dict.fromkeys(judge_slab(entry))
        # With guards around every object, the damage to a neighbour is part of the story.
        for index in range(slab.objects if slab.cache.is_guarded else 0):
            judged = allocator(self._session).find_object(slab.object_start(index))
            findings.update(dict.fromkeys(judge_slab(judged) if judged is not None else ()))
        return tuple(findings)

    def sock(self, addr: int) -> Checked:
        """A socket, its queues and every sk_buff on them; raises Unreadable for the socket itself."""
        checked, queues = self.queues_of(addr)
        return checked + self.all_skbs([skb for queue in queues for skb in queue.skbs])

    def queues_of(self, addr: int) -> tuple[Checked, list[Queue]]:
        """A socket and the linkage of its queues, and these, whose sk_buffs are not judged yet.

        Raises Unreadable for the socket itself.
        """
        sock, queues = self._socks.read(addr), self._socks.queues(addr)
        checked = self.queues(queues)
        if sock.is_full and not walks.is_interrupted():
            try:
                record = self._record(sock, [queue for queue in queues if queue.sock == addr])
                checked = checked + Checked(0, 0, tuple(judge_sock(record)), ())
            except MissingDebugInfo as error:
                checked = checked + Checked(0, 0, (), (), (f"what sockets account for: {error}",))
        return checked, queues

    def queues(self, queues: list[Queue]) -> Checked:
        """The linkage of some queues."""
        findings = [finding for queue in queues for finding in judge_queue(queue)]
        holes = [queue.hole for queue in queues if queue.hole is not None]
        missing = self._socks.missing
        missing += tuple(f"{queue.name} queues: {queue.stopped}" for queue in queues if not queue.head)
        walked = sum(queue.head != 0 for queue in queues)
        return Checked(0, walked, tuple(findings), tuple(holes), missing)

    def all_skbs(self, addresses: list[int]) -> Checked:
        """Several sk_buffs, each once; what is wrong with a slab is told once for all that stand in it."""
        findings: dict[Finding, None] = {}
        holes: list[Hole] = []
        bad_shinfos: list[int] = []
        count = 0
        with walks.walk("the sk_buffs") as steps:
            for addr in steps(dict.fromkeys(addresses)):
                verdict = self.skb(addr)
                findings.update(dict.fromkeys(verdict.findings))
                if verdict.shinfo:
                    bad_shinfos.append(addr)
                if verdict.hole is not None and not verdict.findings:
                    holes.append(verdict.hole)
                count += 1
        missing = (steps.ended,) if steps.ended else ()
        return Checked(count, 0, tuple(findings), tuple(holes), missing, tuple(bad_shinfos))

    def _record(self, sock: Sock, queues: list[Queue]) -> SockRecord:
        if self._accounts is None:
            self._accounts = self._session.layout.unpacker("sock", _ACCOUNTS)
        accounts = self._accounts.unpack_from(*self._session.memory.block(sock.sock, self._accounts.span))
        wmem_queued, wmem_alloc, rmem_alloc, forward_alloc = accounts
        kind = "tcp" if sock.is_tcp else "udp" if sock.is_udp else _KINDS.get(sock.family, "other")
        kind = "other" if sock.is_listener else kind
        sums = {queue.name: self._charged(queue) for queue in queues if queue.complete}
        owners = tuple(owner for queue in queues for owner in self._owners(queue))
        held = sums.get("write", 0) if kind == "udp" else 0
        # All sk_buffs of the system are gone through only for a socket that has written more than stands in its queue.
        everybody = self._session.once(SkbObjects)
        written = None if wmem_alloc == held + 1 or kind == "other" else everybody.written_by(sock.sock)
        # What stands on no queue of its own, in a BPF program's hands for example, is looked for only where it must be.
        read = sum(sums.get(name, 0) for name in ("receive", "ofo", "error"))
        received = everybody.received_by(sock.sock) if kind in _READERS and rmem_alloc > read else None
        is_locked, is_layered = self._socks.is_locked(sock.sock), kind == "tcp" and self._is_layered(sock)
        return SockRecord(
            sock.sock, kind, is_locked, wmem_queued, wmem_alloc, rmem_alloc, forward_alloc, sums, owners,
            # UDP makes a datagram on a list of its own, and is charged at the end (net/ipv4/ip_output.c: ip_make_skb).
            (written.linked if kind != "udp" else 0, written.all) if written is not None else None,
            received.all if received is not None else None,
            self._member(sock, "udp_sock.forward_deficit") if kind == "udp" else 0, self._cork(sock, queues),
            is_layered, sock.refcnt,
            tuple(segment for queue in queues for segment in self._segments(queue)) if kind == "tcp" else (),
        )  # fmt: skip

    def _charged(self, queue: Queue) -> int:
        """The truesize of a queue's sk_buffs, without that of zerocopy's notifications on the error queue."""
        if queue.name != "error" or not queue.nodes or self._omem is None:
            return queue.truesize
        charges = (self._charge.unpack_from(*self._session.memory.block(n, self._charge.span)) for n in queue.nodes)
        return sum(truesize for truesize, destructor in charges if destructor != self._omem)

    def _is_layered(self, sock: Sock) -> bool:
        """Whether something works above a TCP socket: kTLS and MPTCP are ULPs, others are known by sk_user_data."""
        members = map(self._session.layout.find_member, ("sock.sk_user_data", "inet_connection_sock.icsk_ulp_ops"))
        return any(member and self._session.memory.ptr(sock.sock + member.offset) for member in members)

    def _cork(self, sock: Sock, queues: list[Queue]) -> tuple[int, int, int] | None:
        """The length of a corked UDP datagram, and how many sk_buffs with how many bytes hold it."""
        if not sock.is_udp or not self._member(sock, "udp_sock.pending"):
            return None
        length = self._member(sock, "inet_sock.cork_length")
        write = next((queue for queue in queues if queue.name == "write" and queue.complete), None)
        return (length, len(write.nodes), write.bytes) if write is not None and write.nodes else None

    def _member(self, sock: Sock, name: str) -> int:
        """An int member of a socket; 0 where this kernel has none."""
        exists = self._session.layout.find_member(name) is not None
        return self._session.number(sock.sock, name) if exists else 0

    def _owners(self, queue: Queue) -> list[Owner]:
        found = []
        for skb in queue.skbs:
            try:
                sk, destructor = self._sk.unpack_from(*self._session.memory.block(skb, self._sk.span))
            except Unreadable:
                continue
            if sk not in (0, queue.sock) or (sk and not destructor):
                found.append(Owner(skb, queue.name, sk, bool(destructor)))
        return found

    def _segments(self, queue: Queue) -> Iterator[Segment]:
        """The sk_buffs of a TCP socket's queue with their sequence numbers, where the kernel's types tell."""
        if self._numbers is None or queue.name not in _SEGMENTS:
            return
        memory, at = self._session.memory, self._session.layout.offset("sk_buff.cb")
        for skb in queue.skbs:
            try:
                numbers = self._numbers.unpack_from(*memory.block(skb + at, self._numbers.span))
                (length,) = self._len.unpack_from(*memory.block(skb, self._len.span))
            except Unreadable:
                continue
            yield Segment(skb, queue.name, length, *numbers)


def _tcp_numbers(session: Session) -> Unpacker | None:
    """What struct tcp_skb_cb says of a segment: seq, end_seq and the flags; None where the types do not have it all."""
    if session.layout.find_struct("tcp_skb_cb") is None:
        return None
    names = ("seq", "end_seq", "tcp_flags")
    if any(session.layout.find_member(f"tcp_skb_cb.{name}") is None for name in names):
        return None
    unpacker: Unpacker = session.layout.unpacker("tcp_skb_cb", names)
    return unpacker
