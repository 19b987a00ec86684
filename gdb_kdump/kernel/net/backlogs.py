"""What CPUs and network devices have received and not handled yet, or have sent and not freed yet; net/core/dev.c."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.nodes import nr_node_ids
from gdb_kdump.kernel.net.devices import NetDevices
from gdb_kdump.kernel.net.gro import Gro
from gdb_kdump.kernel.net.skb_chains import SkbChains
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.layout.members import Member
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
        lists, freed = self._members(_LISTS), [row for row in self._members(_FREED) if row[1].size == 8]
        for cpu in percpu.possible_cpus():
            data = percpu.symbol("softnet_data", cpu)
            for name, member in lists:
                yield self._queues.linked(f"{name} of CPU {cpu}", data + member.offset).queue
            for name, member in freed:
                head = data + member.offset
                yield _freed(self._chains.chain(f"{name} of CPU {cpu}", head, self._memory.ptr(head)))
            yield from self._deferred(cpu)
            backlog = data + self._layout.offset("softnet_data.backlog")
            yield from self._session.once(Gro).queues(backlog, f"CPU {cpu}'s backlog")

    def _members(self, names: Sequence[str]) -> list[tuple[str, Member]]:
        """Those of these members that this kernel's struct softnet_data has."""
        members = ((name, self._layout.find_member(f"softnet_data.{name}")) for name in names)
        return [(name, member) for name, member in members if member is not None]

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
            head = first + node * self._layout.size("skb_defer_node") + self._layout.offset("skb_defer_node.defer_list")
            yield _freed(self._chains.chain(f"defer_list of CPU {cpu} for node {node}", head, self._memory.ptr(head)))

    def of_devices(self, gaps: Gaps) -> Iterator[Queue]:
        """What GRO holds in the NAPI contexts of the devices; raises MissingDebugInfo."""
        devices = self._session.once(NetDevices)
        for device in devices.all(gaps):
            try:
                for napi in devices.napis(device):
                    yield from self._session.once(Gro).queues(napi, device.name)
            except (Unreadable, Corrupt) as error:
                gaps.note(f"the NAPI contexts of {device.name}: {error}")


def _freed(queue: Queue) -> Queue:
    return replace(queue, role=Role.TO_BE_FREED)
