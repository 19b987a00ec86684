"""What takes received packets: packet_types and the devices' rx_handlers; net/core/dev.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.net.device_hooks import DeviceHooks
from gdb_kdump.records.code import Hook
from gdb_kdump.walks import Gaps, walk

_ETH_P_ALL = 3
_HEAD = 16  # bytes of a struct list_head
_LISTS = ("ptype_all", "ptype_specific")


class PacketHandlers(DeviceHooks):
    """Reads the receivers of packets of one session; raises MissingDebugInfo."""

    def all(self, gaps: Gaps) -> Iterator[Hook]:
        """Every packet_type and rx_handler; those of /proc/net/ptype and more."""
        devices = self._devices.all(gaps)
        names = {device.addr: device.name for device in devices}
        for head, of_net, of_device in self._heads(gaps):
            yield from self._packet_types(head, of_net, of_device, names, gaps)
        handler = self._layout.find_member("net_device.rx_handler")
        for device in devices if handler is not None else ():
            try:
                function = self._session.pointer(device.addr, "net_device.rx_handler")
                if function:
                    net, code = self._devices.net(device), self._code.of(function)
                    netns = self._nets.inum(net)
                    yield Hook("rx_handler", "all packets", device.addr, code, net, netns, device.name)
            except Unreadable as error:
                gaps.note(f"the rx_handler of {device.name}: {error}")

    def _heads(self, gaps: Gaps) -> Iterator[tuple[int, int, int]]:
        """Each list: its head, and the network namespace and the device that it is of, or 0."""
        find = self._session.debuginfo.find_address
        head, table = find("ptype_all"), find("ptype_base")
        if head is not None:
            yield head, 0, 0
        if table is not None:
            yield from ((table + at, 0, 0) for at in range(0, self._session.debuginfo.size("ptype_base"), _HEAD))
        for name in _LISTS:
            member = self._layout.find_member(f"net.{name}")  # in place of the global ones, in newer kernels
            if member is not None:
                yield from ((net + member.offset, net, 0) for net in self._nets.all(gaps))
            member = self._layout.find_member(f"net_device.{name}")  # since v4.0
            if member is not None:
                yield from ((device.addr + member.offset, 0, device.addr) for device in self._devices.all(gaps))

    def _packet_types(self, head: int, net: int, device: int, names: dict[int, str], gaps: Gaps) -> Iterator[Hook]:
        node = self._layout.offset("packet_type.list")
        with gaps.about("packet_types") as broken, walk("a list", broken) as steps:
            for link in steps(list_for_each(self._session, head)):
                yield self._read(link - node, net, device, names)

    def _read(self, addr: int, net: int, device: int, names: dict[int, str]) -> Hook:
        session = self._session
        swapped = session.number(addr, "packet_type.type")
        protocol = int.from_bytes(swapped.to_bytes(2, "little"), "big")
        function = session.pointer(addr, "packet_type.func")
        device = session.pointer(addr, "packet_type.dev") or device
        if device and device not in names:
            raise Corrupt(addr, "a packet_type of what is no network device")
        if device:
            net = session.pointer(device, "net_device.net")
        elif not net and self._layout.find_member("packet_type.af_packet_net") is not None:
            net = session.pointer(addr, "packet_type.af_packet_net")
        return Hook(
            kind="packet_type",
            where="ALL" if protocol == _ETH_P_ALL else f"{protocol:04x}",
            addr=addr,
            code=self._code.of(function),
            net=net,
            netns=self._nets.inum(net) if net else None,
            device=names.get(device),
        )
