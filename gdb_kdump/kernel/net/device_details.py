"""All that a network device says of itself; include/linux/netdevice.h."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.net.bit_names import bits_set, by_mask, by_number
from gdb_kdump.kernel.net.device_addresses import ipv4, ipv6, mac
from gdb_kdump.kernel.net.device_statistics import DeviceStatistics
from gdb_kdump.kernel.net.devices import NetDevice, NetDevices
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.net.qdiscs import Qdiscs
from gdb_kdump.records.code import Code
from gdb_kdump.records.netdev import CpuBacklog, Device, Napi, TxQueue
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

T = TypeVar("T")

_NO_CARRIER = "NOCARRIER"
_COUNTERS = ("processed", "dropped", "time_squeeze", "received_rps")
_QUEUES = ("input_pkt_queue", "process_queue")
_QDISC_COUNTS = ("qlen", "backlog", "drops", "requeues")


class DeviceDetails:
    """Reads the network devices of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layout = layout = session.layout
        self._devices = session.once(NetDevices)
        self._code = session.once(CodeOwners)
        enum_with = session.debuginfo.enum_with
        self._flags = by_mask(layout.enumerators("net_device_flags"), "IFF_")
        self._states = by_number(layout.enumerators("netdev_state_t"), "__LINK_STATE_")
        self._queue_states = by_number(layout.enumerators("netdev_queue_state_t"), "__QUEUE_STATE_")
        self._napi_states = by_number(enum_with("NAPI_STATE_SCHED"), "NAPI_STATE_")
        self._operstates = by_number(enum_with("IF_OPER_UP"), "IF_OPER_")
        self._features = self._feature_names()

    def _feature_names(self) -> dict[int, str]:
        """ethtool's names; net/ethtool/common.c: netdev_features_strings, before v5.6 net/core/ethtool.c."""
        debuginfo = self._session.debuginfo
        names = by_number(debuginfo.enum_with("NETIF_F_SG_BIT"), "NETIF_F_")
        table = debuginfo.find_address("netdev_features_strings")
        if table is None:
            return names
        for bit in range(debuginfo.size("netdev_features_strings") // 32):  # ETH_GSTRING_LEN
            try:
                name = self._session.memory.cstring(table + 32 * bit, 32).decode("ascii", "backslashreplace")
            except Unreadable:
                break
            names[bit] = name or names.get(bit, f"bit {bit}")
        return names

    def all(self, gaps: Gaps) -> Iterator[Device]:
        """Every device of every network namespace; what cannot be read goes to `gaps`; raises MissingDebugInfo."""
        for device in self._devices.all(gaps):
            try:
                yield self._read(device, gaps)
            except (Unreadable, Corrupt) as error:
                gaps.note(f"{device.name}: {error}")

    def _read(self, device: NetDevice, gaps: Gaps) -> Device:
        session, addr = self._session, device.addr
        nothing: tuple[Mapping[str, int] | None, Code | None] = (None, None)
        statistics, kept_by = self._part(device, gaps, lambda: session.once(DeviceStatistics).of(addr), nothing)

        def number(name: str) -> int:
            return session.number(addr, f"net_device.{name}")

        state = bits_set(number("state"), self._states)
        net = self._devices.net(device)
        return Device(
            addr=addr,
            name=device.name,
            net=net,
            netns=session.once(Nets).inum(net),
            ifindex=number("ifindex"),
            flags=bits_set(number("flags"), self._flags),
            state=state,
            operstate=self._operstates.get(number("operstate"), str(number("operstate"))),
            carrier=_NO_CARRIER not in state,
            mtu=number("mtu"),
            headroom=(number("hard_header_len"), number("needed_headroom"), number("needed_tailroom")),
            mac=self._part(device, gaps, lambda: mac(session, addr), ""),
            ipv4=self._part(device, gaps, lambda: tuple(ipv4(session, addr)), ()),
            ipv6=self._part(device, gaps, lambda: tuple(ipv6(session, addr)), ()),
            features=bits_set(number("features"), self._features),
            statistics=statistics,
            kept_by=kept_by,
            driver=self._part(device, gaps, lambda: self._driver(addr), None),
            napis=self._part(device, gaps, lambda: tuple(self._napis(device)), ()),
            queues=self._part(device, gaps, lambda: tuple(self._queues(device)), ()),
        )

    @staticmethod
    def _part(device: NetDevice, gaps: Gaps, read: Callable[[], T], instead: T) -> T:
        """What a device can do without."""
        try:
            return read()
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            gaps.note(f"{device.name}: {error}")
            return instead

    def _driver(self, addr: int) -> Code | None:
        ops = self._session.pointer(addr, "net_device.netdev_ops")
        function = self._session.pointer(ops, "net_device_ops.ndo_start_xmit") if ops else 0
        return self._code.of(function) if function else None

    def _napis(self, device: NetDevice) -> Iterator[Napi]:
        session = self._session
        for addr in self._devices.napis(device):
            poll = self._code.of(session.pointer(addr, "napi_struct.poll"))
            weight = session.number(addr, "napi_struct.weight")
            yield Napi(addr, poll, weight, bits_set(session.number(addr, "napi_struct.state"), self._napi_states))

    def _queues(self, device: NetDevice) -> Iterator[TxQueue]:
        session, count = self._session, self._session.number(device.addr, "net_device.num_tx_queues")
        for number, addr in enumerate(self._devices.tx_queues(device)):
            if number == count:
                return  # that of ingress
            qdisc = session.once(Qdiscs).read(device, session.pointer(addr, "netdev_queue.qdisc"))
            state = bits_set(session.number(addr, "netdev_queue.state"), self._queue_states)
            counts = self._counts(qdisc.addr)
            yield TxQueue(number, addr, state, qdisc.addr, qdisc.kind, qdisc.handle, *counts)

    def _counts(self, qdisc: int) -> list[int]:
        """What a qdisc counts, itself and per CPU; include/net/sch_generic.h: qdisc_qlen_sum."""
        session, layout = self._session, self._layout
        unpacker = layout.unpacker("gnet_stats_queue", _QDISC_COUNTS)
        places = [qdisc + layout.offset("Qdisc.qstats")]
        member, percpu = layout.find_member("Qdisc.cpu_qstats"), session.once(PerCpu)
        first = session.memory.ptr(qdisc + member.offset) if member is not None else 0
        if first:
            places += [percpu.pointer(first, cpu) for cpu in percpu.possible_cpus()]
        rows = [unpacker.unpack_from(*session.memory.block(place, unpacker.span)) for place in places]
        counts = [sum(column) & 0xFFFFFFFF for column in zip(*rows)]  # one CPU's may be negative
        if not first:
            counts[0] = session.number(qdisc, "Qdisc.qlen")
        return counts

    def cpus(self, gaps: Gaps) -> Iterator[CpuBacklog]:
        """What each CPU has received; net/core/net-procfs.c: softnet_seq_show."""
        session, layout, percpu = self._session, self._layout, self._session.once(PerCpu)
        counters = [name for name in _COUNTERS if layout.find_member(f"softnet_data.{name}") is not None]
        queues = [(name, layout.find_member(f"softnet_data.{name}")) for name in _QUEUES]
        qlen = layout.offset("sk_buff_head.qlen")
        for cpu in percpu.possible_cpus():
            addr = percpu.symbol("softnet_data", cpu)
            try:
                values = {name: session.number(addr, f"softnet_data.{name}") for name in counters}
                for name, member in queues:
                    if member is not None:
                        values[name] = session.memory.u32(addr + member.offset + qlen)
                yield CpuBacklog(cpu, addr, values)
            except Unreadable as error:
                gaps.note(f"softnet_data of CPU {cpu}: {error}")
