"""Netfilter's hooks: of each network namespace, family and place, and of devices; net/netfilter/core.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.net.devices import NetDevices
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.layout.net import netfilter_tables
from gdb_kdump.records.code import Hook
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address
from gdb_kdump.walks import Gaps

_MAX_HOOKS = 1024  # net/netfilter/core.c: MAX_HOOK_COUNT
_ARP = ("IN", "OUT", "FORWARD")  # include/uapi/linux/netfilter_arp.h


class Netfilter:
    """Reads the hooks of one session; raises MissingDebugInfo where the kernel has none of that form."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layout = layout = session.layout
        self._code = session.once(CodeOwners)
        self._tables = netfilter_tables(layout)
        self._entries = layout.offset("nf_hook_entries.hooks")
        self._entry = layout.unpacker("nf_hook_entry", ("hook", "priv"))
        self._ops = layout.unpacker("nf_hook_ops", ("hook", "priority"))
        self._places = {number: name for name, number in layout.enumerators("nf_inet_hooks").items()}

    def all(self, gaps: Gaps) -> Iterator[Hook]:
        """Each hook, in the order in which the kernel calls those of one place."""
        nets = self._session.once(Nets)
        for net in nets.all(gaps):
            for family, offset, count in self._tables:
                for number in range(count):
                    where = f"{family} {self._place(family, number)}"
                    yield from self._hooks(net + offset + 8 * number, where, gaps, net)
        devices = self._session.once(NetDevices)
        for device in devices.all(gaps):
            for name in ("ingress", "egress"):
                member = self._layout.find_member(f"net_device.nf_hooks_{name}")
                if member is not None:  # CONFIG_NETFILTER_INGRESS, since v4.2; egress since v5.16
                    place = device.addr + member.offset
                    yield from self._hooks(place, f"device {name}", gaps, devices.net(device), device.name)

    def _place(self, family: str, number: int) -> str:
        if family == "ARP" and number < len(_ARP):
            return _ARP[number]
        if family == "bridge" and number == 5:  # include/uapi/linux/netfilter_bridge.h: NF_BR_BROUTING
            return "BROUTING"
        return self._places.get(number, str(number)).replace("NF_INET_", "")

    def _hooks(self, place: int, where: str, gaps: Gaps, net: int, device: str | None = None) -> Iterator[Hook]:
        try:
            entries = self._session.memory.ptr(place)
            if entries:
                yield from self._array(entries, where, net, device)
        except (Unreadable, Corrupt) as error:
            gaps.note(f"netfilter hooks, {where}{f' of {device}' if device else ''}: {error}")

    def _array(self, entries: int, where: str, net: int, device: str | None) -> Iterator[Hook]:
        """A struct nf_hook_entries *, after whose hooks stand as many pointers to what was registered."""
        if not is_kernel_address(entries) or entries & 7:
            raise Corrupt(entries, "no struct nf_hook_entries")
        memory = self._session.memory
        count = self._session.number(entries, "nf_hook_entries.num_hook_entries")
        if count > _MAX_HOOKS:
            raise Corrupt(entries, f"no struct nf_hook_entries: {count} hooks")
        netns = self._session.once(Nets).inum(net)
        registered = entries + self._entries + count * self._entry.size
        for number in range(count):
            addr = entries + self._entries + number * self._entry.size
            function, private = self._entry.unpack_from(*memory.block(addr, self._entry.span))
            priority = self._priority(memory.ptr(registered + 8 * number), function)
            detail = f"priv {hex16(private)}" if private else ""
            code = self._code.of(function)
            yield Hook("netfilter", where, addr, code, net, netns, device, priority, detail)

    def _priority(self, ops: int, function: int) -> int | None:
        """The priority in a struct nf_hook_ops *, None where that is not the one of the function."""
        try:
            hook, priority = self._ops.unpack_from(*self._session.memory.block(ops, self._ops.span))
        except Unreadable:
            return None
        return priority if hook == function else None
