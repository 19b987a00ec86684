"""What CPUs and network devices have received and not handled yet, or have sent and not freed yet; net/core/dev.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.nodes import nr_node_ids
from gdb_kdump.kernel.net.devices import NetDevices
from gdb_kdump.kernel.net.skb_chains import SkbChains
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.layout.members import array_length
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

# Queues of struct softnet_data that are a struct sk_buff_head, and those that end in NULL, of what is to be freed.
_LISTS = ("input_pkt_queue", "process_queue", "xfrm_backlog")
_FREED = ("completion_queue", "defer_list")


class Backlogs:
    """Walks the backlogs of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._queues = session.once(SkbLists)
        self._chains = session.once(SkbChains)

    def of_cpus(self) -> Iterator[Queue]:
        """The queues of each CPU's struct softnet_data, one that panic() has stopped included.

        Raises Unreadable, MissingDebugInfo.
        """
        percpu = self._session.once(PerCpu)
        for cpu in percpu.possible_cpus():
            data = percpu.symbol("softnet_data", cpu)
            for name in _LISTS:
                member = self._layout.find_member(f"softnet_data.{name}")
                if member is not None:
                    yield self._queues.linked(f"{name} of CPU {cpu}", data + member.offset).queue
            for name in _FREED:
                member = self._layout.find_member(f"softnet_data.{name}")
                if member is not None and member.size == 8:
                    at = data + member.offset
                    yield _freed(self._chains.chain(f"{name} of CPU {cpu}", at, self._memory.ptr(at)))
            yield from self._deferred(cpu)
            yield from self._gro(data + self._layout.offset("softnet_data.backlog"), f"CPU {cpu}'s backlog")

    def _deferred(self, cpu: int) -> Iterator[Queue]:
        """What a CPU is to free for others, a list for each node; net/core/skbuff.c: skb_attempt_defer_free.

        5628f3fe3b16 (v6.19) net: add NUMA awareness to skb_attempt_defer_free(); before, softnet_data had one list.
        """
        hot = self._session.debuginfo.find_address("net_hotdata")
        if hot is None or self._layout.find_struct("skb_defer_node") is None:
            return
        nodes = self._memory.ptr(hot + self._layout.offset("net_hotdata.skb_defer_nodes"))
        first = self._session.once(PerCpu).pointer(nodes, cpu) if nodes else 0
        for node in range(nr_node_ids(self._session) if first else 0):
            at = first + node * self._layout.size("skb_defer_node") + self._layout.offset("skb_defer_node.defer_list")
            yield _freed(self._chains.chain(f"defer_list of CPU {cpu} for node {node}", at, self._memory.ptr(at)))

    def of_devices(self, gaps: Gaps) -> Iterator[Queue]:
        """What GRO holds in the NAPI contexts of the devices; raises MissingDebugInfo."""
        devices = self._session.once(NetDevices)
        for device in devices.all(gaps):
            try:
                for napi in devices.napis(device):
                    yield from self._gro(napi, device.name)
            except (Unreadable, Corrupt) as error:
                gaps.note(f"the NAPI contexts of {device.name}: {error}")

    def _gro(self, napi: int, owner: str) -> Iterator[Queue]:
        """The lists of a `struct napi_struct *`; raises Unreadable, MissingDebugInfo.

        6312fe77751f (v4.19) net: limit each hash list length to MAX_GRO_SKBS made buckets of them; they hold the
        packets that wait for the next one of their flow, rx_list those that are on their way to the stack.
        """
        scheduled = self._layout.enumerators("napi_state").get("NAPI_STATE_SCHED", 0)
        # No lock guards these, but only who has scheduled the context works on them.
        is_busy = bool(self._session.number(napi, "napi_struct.state") >> scheduled & 1)
        buckets = self._layout.find_member("napi_struct.gro_hash")
        if buckets is not None and self._layout.find_struct("gro_list") is not None:
            size, count = self._layout.size("gro_list"), self._layout.offset("gro_list.count")
            for number in range(array_length(buckets)):
                at = napi + buckets.offset + number * size
                name = f"GRO of {owner}, bucket {number}"
                yield _gros(self._chains.list(name, at, self._memory.s32(at + count), is_busy))
        single = self._layout.find_member("napi_struct.gro_list")
        if single is not None and single.size == 8:
            at, count = napi + single.offset, self._session.number(napi, "napi_struct.gro_count")
            yield _gros(self._chains.chain(f"GRO of {owner}", at, self._memory.ptr(at), count=(count, 0)))
        received = self._layout.find_member("napi_struct.rx_list")
        if received is not None:
            yield self._chains.list(f"rx_list of {owner}", napi + received.offset, None, is_busy)


def _freed(queue: Queue) -> Queue:
    return replace(queue, role=Role.TO_BE_FREED)


def _gros(queue: Queue) -> Queue:
    return replace(queue, role=Role.GRO)
