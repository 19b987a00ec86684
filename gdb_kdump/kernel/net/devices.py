"""Network devices, with their transmit queues and NAPI contexts; include/linux/netdevice.h."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16
from gdb_kdump.walks import Gaps

_MAX_TX_QUEUES = 1 << 16  # include/linux/netdevice.h: netif_alloc_netdev_queues refuses more


@dataclass(frozen=True)
class NetDevice:
    """A `struct net_device *` and its name."""

    addr: int
    name: str


class NetDevices:
    """Finds the network devices of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout

    def all(self, gaps: Gaps) -> list[NetDevice]:
        """Every device of every network namespace; what cannot be followed goes to `gaps`; for_each_netdev.

        Raises MissingDebugInfo.
        """
        head, node = self._layout.offset("net.dev_base_head"), self._layout.offset("net_device.dev_list")
        devices: dict[int, NetDevice] = {}
        for net in self._session.once(Nets).all(gaps):
            try:
                for link in list_for_each(self._session, net + head):
                    devices[link - node] = self._read(link - node)
            except (Unreadable, Corrupt) as error:
                gaps.note(f"the network devices of the namespace {hex16(net)}: {error}")
        return list(devices.values())

    def _read(self, addr: int) -> NetDevice:
        member = self._layout.member("net_device.name")
        return NetDevice(addr, escape(self._memory.cstring(addr + member.offset, member.size)))

    def net(self, device: NetDevice) -> int:
        """Its `struct net *`; raises Unreadable, MissingDebugInfo."""
        return self._session.pointer(device.addr, "net_device.net")

    def tx_queues(self, device: NetDevice) -> Iterator[int]:
        """Each `struct netdev_queue *` for transmission, and the one of ingress; raises Unreadable, Corrupt."""
        first = self._session.pointer(device.addr, "net_device._tx")
        count = self._session.number(device.addr, "net_device.num_tx_queues")
        if count > _MAX_TX_QUEUES:
            raise Corrupt(device.addr, f"no struct net_device: {count} transmit queues")
        size = self._layout.size("netdev_queue")
        yield from (first + number * size for number in range(count if first else 0))
        ingress = self._layout.find_member("net_device.ingress_queue")  # CONFIG_NET_INGRESS
        queue = self._memory.ptr(device.addr + ingress.offset) if ingress is not None else 0
        if queue:
            yield queue

    def tx_number(self, device: NetDevice, queue: int) -> int | None:
        """The number of a `struct netdev_queue *` of a device that has several for transmission, else None."""
        first = self._session.pointer(device.addr, "net_device._tx")
        count = self._session.number(device.addr, "net_device.num_tx_queues")
        number, rest = divmod(queue - first, self._layout.size("netdev_queue"))
        return number if count > 1 and not rest and 0 <= number < count else None

    def napis(self, device: NetDevice) -> Iterator[int]:
        """Each `struct napi_struct *` of a device; raises Unreadable, Corrupt."""
        node = self._layout.offset("napi_struct.dev_list")
        head = device.addr + self._layout.offset("net_device.napi_list")
        for link in list_for_each(self._session, head):
            yield link - node
