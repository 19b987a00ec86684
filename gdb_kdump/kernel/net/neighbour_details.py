"""Neighbours with their addresses and states; net/core/neighbour.c."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.net.bit_names import bits_set
from gdb_kdump.kernel.net.devices import NetDevices
from gdb_kdump.kernel.net.neighbours import Neighbours
from gdb_kdump.records.netdev import Neighbour
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

# include/uapi/linux/neighbour.h: NUD_INCOMPLETE and so on, the lowest bit first.
_STATES = dict(
    enumerate(("INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT"))
)  # fmt: skip
_KEY_SIZES = (4, 16)


class NeighbourDetails:
    """Reads the neighbours of one session; raises MissingDebugInfo."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layout = session.layout

    def all(self, gaps: Gaps) -> Iterator[Neighbour]:
        """Each neighbour of IPv4 and IPv6; what cannot be read goes to `gaps`."""
        devices = {device.addr: device.name for device in self._session.once(NetDevices).all(gaps)}
        for table, addr in self._session.once(Neighbours).all(gaps):
            try:
                yield self._read(table, addr, devices)
            except (Unreadable, Corrupt) as error:
                gaps.note(f"neighbour {hex16(addr)}: {error}")

    def _read(self, table: int, addr: int, devices: dict[int, str]) -> Neighbour:
        session, layout = self._session, self._layout
        size = session.number(table, "neigh_table.key_len")
        if size not in _KEY_SIZES:
            raise Corrupt(table, f"no struct neigh_table: key_len {size}")
        key = session.memory.read(addr + layout.offset("neighbour.primary_key"), size)
        device = session.pointer(addr, "neighbour.dev")
        if device not in devices:
            raise Corrupt(addr, f"its dev {hex16(device)} is no network device")
        mac_size = min(session.number(device, "net_device.addr_len"), layout.member("neighbour.ha").size)
        queue = layout.offset("neighbour.arp_queue") + layout.offset("sk_buff_head.qlen")
        return Neighbour(
            addr=addr,
            address=str(ip_address(key)),
            device=devices[device],
            mac=session.memory.read(addr + layout.offset("neighbour.ha"), mac_size).hex(":"),
            state=bits_set(session.number(addr, "neighbour.nud_state"), _STATES),
            waiting=session.memory.u32(addr + queue),
        )
