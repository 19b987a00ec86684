"""The counters of network devices; net/core/dev.c: dev_get_stats."""

from __future__ import annotations

from collections.abc import Mapping

from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.records.code import Code
from gdb_kdump.session import Session

_COUNTERS = (
    "rx_packets", "rx_bytes", "rx_errors", "rx_dropped", "multicast",
    "tx_packets", "tx_bytes", "tx_errors", "tx_dropped", "collisions",
)  # fmt: skip
_TRAFFIC = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
# Functions of the kernel's own that give a device's counters; others are drivers'.
_BY_TSTATS = ("dev_get_tstats64", "ip_tunnel_get_stats64")
_BY_LSTATS = ("loopback_get_stats64",)


class DeviceStatistics:
    """Sums up the counters of one session's devices."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layout = session.layout
        self._code = session.once(CodeOwners)

    def of(self, device: int) -> tuple[Mapping[str, int] | None, Code | None]:
        """The counters of a `struct net_device *`, None where a driver's function, the second, alone knows how.

        Raises Unreadable, MissingDebugInfo.
        """
        ops = self._session.pointer(device, "net_device.netdev_ops")
        for method in ("ndo_get_stats64", "ndo_get_stats"):
            function = self._session.pointer(ops, f"net_device_ops.{method}") if ops else 0
            if not function:
                continue
            code = self._code.of(function)
            if code.symbol in _BY_TSTATS:
                return self._with_core(device, self._with_tstats(device, self._own(device))), None
            if code.symbol in _BY_LSTATS:
                return self._with_core(device, self._lstats(device)), None
            return None, code
        counters = self._own(device)
        if self._keeps_tstats(device):
            counters = self._with_tstats(device, counters)
        return self._with_core(device, counters), None

    def _own(self, device: int) -> dict[str, int]:
        member = self._layout.member("net_device.stats")
        unpacker = self._layout.unpacker("net_device_stats", _COUNTERS)
        block = self._session.memory.block(device + member.offset, unpacker.span)
        return dict(zip(_COUNTERS, unpacker.unpack_from(*block)))

    def _keeps_tstats(self, device: int) -> bool:
        """Whether the core keeps the counters per CPU: since v6.8 it allocates them, and knows."""
        if self._layout.find_member("net_device.pcpu_stat_type") is None:
            return False
        kinds = self._layout.enumerators("netdev_stat_type")
        return self._session.number(device, "net_device.pcpu_stat_type") == kinds.get("NETDEV_PCPU_STAT_TSTATS")

    def _with_tstats(self, device: int, counters: dict[str, int]) -> dict[str, int]:
        sums = self._sum(device, "net_device.tstats", "pcpu_sw_netstats", _TRAFFIC)
        return {name: value + sums.get(name, 0) for name, value in counters.items()}

    def _lstats(self, device: int) -> dict[str, int]:
        """Those of the loopback, which receives what it sends."""
        sums = self._sum(device, "net_device.lstats", "pcpu_lstats", ("packets", "bytes"))
        both = {f"{way}_{name}": value for name, value in sums.items() for way in ("rx", "tx")}
        return {name: both.get(name, 0) for name in _COUNTERS}

    def _with_core(self, device: int, counters: dict[str, int]) -> dict[str, int]:
        """With what the core has dropped: per CPU since v5.18, before in the device itself."""
        names = ("rx_dropped", "tx_dropped")
        if self._layout.find_member("net_device.core_stats") is not None:
            dropped = self._sum(device, "net_device.core_stats", "net_device_core_stats", names)
        else:
            found = [name for name in names if self._layout.find_member(f"net_device.{name}") is not None]
            dropped = {name: self._session.number(device, f"net_device.{name}") for name in found}
        return {name: value + dropped.get(name, 0) for name, value in counters.items()}

    def _sum(self, device: int, member: str, tag: str, names: tuple[str, ...]) -> dict[str, int]:
        """The sums over all CPUs of some counters in a struct that a member has a per-CPU pointer to."""
        percpu, first = self._session.once(PerCpu), self._session.pointer(device, member)
        if not first:
            return {}
        unpacker = self._layout.unpacker(tag, names)
        copies = [percpu.pointer(first, cpu) for cpu in percpu.possible_cpus()]
        rows = [unpacker.unpack_from(*self._session.memory.block(copy, unpacker.span)) for copy in copies]
        return dict(zip(names, map(sum, zip(*rows))))
