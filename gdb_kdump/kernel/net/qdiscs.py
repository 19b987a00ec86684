"""The packets that queueing disciplines hold; net/sched/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.hash_tables import chained
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.rbtree import RbTrees
from gdb_kdump.kernel.lib.spinlocks import Spinlocks
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.module.symbols import ModuleSymbols
from gdb_kdump.kernel.net.devices import NetDevice, NetDevices
from gdb_kdump.kernel.net.skb_chains import SkbChains
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.kernel.stack.interrupted import Interruption
from gdb_kdump.layout.members import array_length
from gdb_kdump.layout.net import qdisc_private
from gdb_kdump.records.queue import Queue
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16, is_kernel_address
from gdb_kdump.walks import Gaps

# Those whose Qdisc.q has all that they hold, but for what was taken off and put back (gso_skb).
_FIFOS = frozenset(("pfifo", "bfifo", "pfifo_head_drop", "codel", "pie"))
# Those with an array of flows: the private struct with `flows` and `flows_cnt`, and the struct of a flow.
_FLOWS = {"fq_codel": ("fq_codel_sched_data", "fq_codel_flow"), "fq_pie": ("fq_pie_sched_data", "fq_pie_flow")}
_MAX_FLOWS = 1 << 16  # net/sched/sch_fq_codel.c: fq_codel_change
_MAX_TREES_LOG = 18  # net/sched/sch_fq.c: fq_change


@dataclass(frozen=True)
class Qdisc:
    """A `struct Qdisc *`: its kind, a name for people, and what it counts as held.

    `has_cpu_counts` says that it counts per CPU, and `count` nothing; `owner` is its `struct module *`, 0 for the
    kernel's own; `private` the address of its own data.
    """

    addr: int
    kind: str
    name: str
    count: int
    has_cpu_counts: bool
    handle: int
    parent: int
    owner: int
    private: int


class Qdiscs:
    """Walks the qdiscs of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._devices = session.once(NetDevices)
        self._queues = session.once(SkbLists)
        self._chains = session.once(SkbChains)
        # 48da34b7a74201 (v4.12) sched: add and use qdisc_skb_head helpers
        self._has_skb_heads = self._layout.find_struct("qdisc_skb_head") is not None

    def queues(self, gaps: Gaps) -> Iterator[Queue]:
        """Every queue of every qdisc of every device; what cannot be followed goes to `gaps`.

        Raises MissingDebugInfo.
        """
        for device in self._devices.all(gaps):
            qdiscs = self._of(device, gaps)
            is_busy = self._are_busy(qdiscs)
            for qdisc in qdiscs:
                try:
                    walked = [replace(queue, is_busy=is_busy or queue.is_busy) for queue in self._walk(qdisc)]
                except (Unreadable, Corrupt, MissingDebugInfo) as error:
                    gaps.note(f"qdisc {qdisc.name}: {error}")
                    continue
                yield from walked
                below = sum(child.count for child in qdiscs if _is_child(child, qdisc))
                held = sum(len(queue.nodes) for queue in walked) + below
                if qdisc.count > held and all(queue.complete for queue in walked) and not self._is_followed(qdisc):
                    gaps.note(f"qdisc {qdisc.name}: {qdisc.count - held} sk_buffs in a way that is not known here")

    def _of(self, device: NetDevice, gaps: Gaps) -> list[Qdisc]:
        """The qdiscs of a device, each once: roots and what is below them; net/sched/sch_api.c: qdisc_lookup."""
        qdiscs: dict[int, Qdisc] = {}
        try:
            for addr in self._addresses(device, gaps):
                if addr in qdiscs or not addr:
                    continue
                if not is_kernel_address(addr) or addr & 7:
                    gaps.note(f"device {device.name} leads to a qdisc at {hex16(addr)}, which is none")
                    continue
                qdiscs[addr] = self.read(device, addr)
        except (Unreadable, Corrupt) as error:
            gaps.note(f"the qdiscs of {device.name}: {error}")
        return list(qdiscs.values())

    def _addresses(self, device: NetDevice, gaps: Gaps) -> Iterator[int]:
        layout = self._layout
        root = self._session.pointer(device.addr, "net_device.qdisc")
        yield root
        for queue in self._devices.tx_queues(device):
            yield self._session.pointer(queue, "netdev_queue.qdisc")
            yield self._session.pointer(queue, "netdev_queue.qdisc_sleeping")
        # 59cc1f61f09c (v4.10) net: sched: convert qdisc linked list to hashtable
        table = layout.find_member("net_device.qdisc_hash")
        if table is not None:
            node, buckets = layout.offset("Qdisc.hash"), device.addr + table.offset
            with gaps.about(f"the qdiscs of {device.name}") as broken:
                for link in chained(self._session, buckets, array_length(table), 8, 0, broken):
                    yield link - node
        else:
            offset = layout.offset("Qdisc.list")
            yield from (link - offset for link in list_for_each(self._session, root + offset))

    def read(self, device: NetDevice, addr: int) -> Qdisc:
        """A `struct Qdisc *` of a device; raises Unreadable, MissingDebugInfo."""
        layout, memory = self._layout, self._memory
        ops = self._session.pointer(addr, "Qdisc.ops")
        member = layout.member("Qdisc_ops.id")
        kind = escape(memory.cstring(ops + member.offset, member.size))
        handle, parent = (self._session.number(addr, f"Qdisc.{name}") for name in ("handle", "parent"))
        number = self._devices.tx_number(device, self._session.pointer(addr, "Qdisc.dev_queue"))
        name = f"{kind}{f' {handle >> 16:x}:' if handle else ''} of {device.name}"
        name += f", transmit queue {number}" if number is not None else ""
        per_cpu = layout.find_member("Qdisc.cpu_qstats")
        return Qdisc(
            addr=addr,
            kind=kind,
            name=name,
            count=self._session.number(addr, "Qdisc.qlen"),
            has_cpu_counts=per_cpu is not None and memory.ptr(addr + per_cpu.offset) != 0,
            handle=handle,
            parent=parent,
            owner=self._session.pointer(ops, "Qdisc_ops.owner"),
            private=addr + qdisc_private(layout),
        )

    def _walk(self, qdisc: Qdisc) -> Iterator[Queue]:
        put_back = list(self._put_back(qdisc))
        own = list(self._own(qdisc))
        yield from put_back
        yield from own
        elsewhere = sum(len(queue.nodes) for queue in (*put_back, *own))
        # Without a whole walk of the rest, the count tells nothing of this one.
        is_known = self._is_followed(qdisc) and all(queue.complete for queue in (*put_back, *own))
        yield self._list_of(qdisc, (qdisc.count, elsewhere) if is_known else None)

    def _is_followed(self, qdisc: Qdisc) -> bool:
        """Whether all that a qdisc counts is in the queues that _walk yields."""
        if qdisc.has_cpu_counts:
            return False
        return qdisc.kind in _FIFOS or qdisc.kind == "fq" or qdisc.kind in _FLOWS

    def _list_of(self, qdisc: Qdisc, count: tuple[int, int] | None) -> Queue:
        """Qdisc.q: a struct qdisc_skb_head, and before that a struct sk_buff_head."""
        head = qdisc.addr + self._layout.offset("Qdisc.q")
        name = f"qdisc {qdisc.name}"
        if not self._has_skb_heads:
            queue = self._queues.linked(name, head).queue
            return self._chains.recounted(queue, count)
        first, last = (self._session.pointer(head, f"qdisc_skb_head.{end}") for end in ("head", "tail"))
        return self._chains.chain(name, head, first, ("tail", last), count)

    def _are_busy(self, qdiscs: list[Qdisc]) -> bool:
        """Whether a CPU may have been in the middle of a device's qdiscs: the root's lock guards those below it.

        include/net/sch_generic.h: qdisc_root_lock.
        """
        name = "qdisc_skb_head" if self._has_skb_heads else "sk_buff_head"
        lock = self._layout.find_member(f"{name}.lock")
        if lock is None:
            return False
        offset, spinlocks = self._layout.offset("Qdisc.q") + lock.offset, self._session.once(Spinlocks)
        return any(spinlocks.is_held(q.addr + offset) for q in qdiscs) and self._session.once(Interruption).possible()

    def _put_back(self, qdisc: Qdisc) -> Iterator[Queue]:
        """What the device or, yet, the qdisc did not take.

        net/sched/sch_generic.c: dev_requeue_skb, qdisc_enqueue_skb_bad_txq; net/core/dev.c: __dev_xmit_skb.
        """
        for name in ("gso_skb", "skb_bad_txq"):
            member = self._layout.find_member(f"Qdisc.{name}")
            if member is None:
                continue
            put_back, text = qdisc.addr + member.offset, f"qdisc {qdisc.name}, {name}"
            # a53851e2c321 (v4.16) net: sched: explicit locking in gso_cpu fallback made lists of the pointers.
            if member.size == 8:
                skb = self._memory.ptr(put_back)
                yield self._chains.pointers(text, put_back, (skb,) if skb else ())
            else:
                yield self._queues.linked(text, put_back).queue
        # 100dfa74cad9 (v6.19) net: dev_queue_xmit() llist adoption: what CPUs have for the qdisc's owner, newest first.
        adopted = self._layout.find_member("Qdisc.defer_list")
        if adopted is not None:
            head = qdisc.addr + adopted.offset
            yield self._chains.chain(f"qdisc {qdisc.name}, defer_list", head, self._memory.ptr(head))

    def _own(self, qdisc: Qdisc) -> Iterator[Queue]:
        """What a qdisc keeps in data of its own."""
        walk: Callable[[Qdisc], Iterator[Queue]] | None = {
            "pfifo_fast": self._bands, "fq": self._fq, "netem": self._netem, "htb": self._htb,
        }.get(qdisc.kind)  # fmt: skip
        walk = self._flows if qdisc.kind in _FLOWS else walk
        if walk is None or not (qdisc.count or qdisc.has_cpu_counts):
            return
        if qdisc.owner:
            # Its types are in the module's debug information.
            module = self._session.once(Modules).find_by_address(qdisc.owner)
            if module is not None:
                self._session.once(ModuleSymbols).load(module)
        yield from walk(qdisc)

    def _flows(self, qdisc: Qdisc) -> Iterator[Queue]:
        """net/sched/sch_fq_codel.c: flow_queue_add."""
        data, flow = _FLOWS[qdisc.kind]
        layout, memory = self._layout, self._memory
        first = self._session.pointer(qdisc.private, f"{data}.flows")
        count, size = self._session.number(qdisc.private, f"{data}.flows_cnt"), layout.size(flow)
        if not 0 < count <= _MAX_FLOWS:
            raise Corrupt(qdisc.addr, f"no {qdisc.kind}: {count} flows")
        unpacker = layout.unpacker(flow, ("head", "tail"))
        for number in range(count):
            flow_at = first + number * size
            head, tail = unpacker.unpack_from(*memory.block(flow_at, unpacker.span))
            if head:
                yield self._chains.chain(f"qdisc {qdisc.name}, flow {number}", flow_at, head, ("tail", tail))

    def _bands(self, qdisc: Qdisc) -> Iterator[Queue]:
        """net/sched/sch_generic.c: struct pfifo_fast_priv: c5ad119fb6c0 (v4.16) made rings of the lists."""
        member = self._layout.member("pfifo_fast_priv.q")
        size = member.size // array_length(member)
        for number in range(array_length(member)):
            band, name = qdisc.private + member.offset + number * size, f"qdisc {qdisc.name}, band {number}"
            if self._layout.find_struct("skb_array") is not None and size == self._layout.size("skb_array"):
                yield self._chains.pointers(name, band, self._in_ring(band + self._layout.offset("skb_array.ring")))
            elif size == self._layout.size("sk_buff_head"):
                yield self._queues.linked(name, band).queue

    def _in_ring(self, ring: int) -> Iterator[int]:
        """The pointers in a `struct ptr_ring *`; include/linux/ptr_ring.h: __ptr_ring_consume.

        Those before consumer_head are consumed, though they may still be there; from it on the first NULL ends them.
        """
        memory = self._memory
        size, position = (self._session.number(ring, f"ptr_ring.{name}") for name in ("size", "consumer_head"))
        array = self._session.pointer(ring, "ptr_ring.queue")
        if not 0 <= size <= walks.max_elements() or not 0 <= position < max(size, 1):
            raise Corrupt(ring, f"no struct ptr_ring: position {position} of {size}")
        for _ in range(size):
            pointer = memory.ptr(array + 8 * position)
            if not pointer:
                return
            yield pointer
            position = (position + 1) % size

    def _fq(self, qdisc: Qdisc) -> Iterator[Queue]:
        """net/sched/sch_fq.c: fq_flow_add_tail, flow_queue_add."""
        layout, memory = self._layout, self._memory
        yield from self._fq_flow(qdisc, qdisc.private + layout.offset("fq_sched_data.internal"))
        trees = self._session.pointer(qdisc.private, "fq_sched_data.fq_root")
        log = self._session.number(qdisc.private, "fq_sched_data.fq_trees_log")
        if log > _MAX_TREES_LOG:
            raise Corrupt(qdisc.addr, f"no fq: 2 to the power of {log} trees")
        walker, node, size = RbTrees(memory, layout), layout.offset("fq_flow.fq_node"), layout.size("rb_root")
        for number in range(1 << log):
            if memory.ptr(trees + number * size):
                for flow in walker.walk(trees + number * size, node, is_kernel_address).nodes:
                    yield from self._fq_flow(qdisc, flow.addr)

    def _fq_flow(self, qdisc: Qdisc, flow: int) -> Iterator[Queue]:
        layout, name = self._layout, f"qdisc {qdisc.name}, flow {hex16(flow)}"
        head, tail = (self._session.pointer(flow, f"fq_flow.{end}") for end in ("head", "tail"))
        if head:
            yield self._chains.chain(name, flow, head, ("tail", tail))
        # eeb84aa0d0af (v5.0) net_sched: sch_fq: do not assume EDT packets are ordered
        root = layout.find_member("fq_flow.t_root")
        if root is not None and self._memory.ptr(flow + root.offset):
            yield self._chains.tree(name, flow + root.offset)

    def _netem(self, qdisc: Qdisc) -> Iterator[Queue]:
        """net/sched/sch_netem.c: tfifo_enqueue."""
        layout, name = self._layout, f"qdisc {qdisc.name}"
        root = layout.find_member("netem_sched_data.t_root")
        if root is not None:
            yield self._chains.tree(f"{name}, t_root", qdisc.private + root.offset)
        head = layout.find_member("netem_sched_data.t_head")
        if head is not None:
            last = self._session.pointer(qdisc.private, "netem_sched_data.t_tail")
            first = qdisc.private + head.offset
            yield self._chains.chain(f"{name}, t_head", first, self._memory.ptr(first), ("t_tail", last))

    def _htb(self, qdisc: Qdisc) -> Iterator[Queue]:
        """net/sched/sch_htb.c: htb_enqueue: what no class gets."""
        head = qdisc.private + self._layout.offset("htb_sched.direct_queue")
        if not self._has_skb_heads:
            yield self._queues.linked(f"qdisc {qdisc.name}, direct_queue", head).queue
            return
        first, last, qlen = self._layout.unpacker("qdisc_skb_head", ("head", "tail", "qlen")).unpack_from(
            *self._memory.block(head, self._layout.size("qdisc_skb_head"))
        )
        yield self._chains.chain(f"qdisc {qdisc.name}, direct_queue", head, first, ("tail", last), (qlen, 0))


def _is_child(qdisc: Qdisc, of: Qdisc) -> bool:
    """Whether a qdisc hangs in one of the classes of another: its parent's major number is that one's handle."""
    return bool(of.handle) and qdisc.parent >> 16 == of.handle >> 16 and qdisc.addr != of.addr
