"""Classifiers at the ingress and egress of devices, and the kinds of actions; net/sched/cls_api.c, act_api.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.net.device_hooks import DeviceHooks
from gdb_kdump.kernel.net.devices import NetDevice
from gdb_kdump.records.code import Hook
from gdb_kdump.text import escape
from gdb_kdump.walks import Gaps, walk


class TcFilters(DeviceHooks):
    """Reads the filters of one session's devices, but for those of classful qdiscs."""

    def all(self, gaps: Gaps) -> Iterator[Hook]:
        """Each filter of clsact and ingress qdiscs, and each kind of action that is registered."""
        for device in self._devices.all(gaps):
            for name in ("ingress", "egress"):
                try:
                    yield from self._filters(device, name)
                except (Unreadable, Corrupt) as error:
                    gaps.note(f"{name} filters of {device.name}: {error}")
        with gaps.about("act_base") as broken, walk("the list", broken) as steps:
            yield from steps(self._actions())

    def _filters(self, device: NetDevice, name: str) -> Iterator[Hook]:
        miniq = self._mini_qdisc(device, name)
        proto = self._session.pointer(miniq, "mini_Qdisc.filter_list") if miniq else 0
        net = self._devices.net(device)
        met: set[int] = set()
        while proto:
            if proto in met or len(met) >= walks.max_elements():
                raise Corrupt(proto, "a chain of struct tcf_proto has no end")
            met.add(proto)
            ops = self._session.pointer(proto, "tcf_proto.ops")
            where = f"{name} {self._kind(ops, 'tcf_proto_ops.kind')}"
            code = self._code.of(self._session.pointer(proto, "tcf_proto.classify"))
            priority = self._session.number(proto, "tcf_proto.prio") >> 16  # the lower half is reserved
            yield Hook("filter", where, proto, code, net, self._nets.inum(net), device.name, priority)
            proto = self._session.pointer(proto, "tcf_proto.next")

    def _mini_qdisc(self, device: NetDevice, name: str) -> int:
        """The struct mini_Qdisc * of a direction, or 0: since v6.6 it stands beside the direction's tcx programs."""
        layout, session = self._layout, self._session
        own = layout.find_member(f"net_device.miniq_{name}")
        if own is not None:
            return session.memory.ptr(device.addr + own.offset)
        tcx = layout.find_member(f"net_device.tcx_{name}")
        entry = session.memory.ptr(device.addr + tcx.offset) if tcx is not None else 0
        if not entry or layout.find_struct("tcx_entry") is None:
            return 0
        bundle = session.pointer(entry, "bpf_mprog_entry.parent")
        return session.pointer(bundle - layout.offset("tcx_entry.bundle"), "tcx_entry.miniq")

    def _actions(self) -> Iterator[Hook]:
        head = self._session.debuginfo.find_address("act_base")
        if head is None:
            return
        node = self._layout.offset("tc_action_ops.head")
        for link in list_for_each(self._session, head):
            ops = link - node
            code = self._code.of(self._session.pointer(ops, "tc_action_ops.act"))
            yield Hook("action", self._kind(ops, "tc_action_ops.kind"), ops, code)

    def _kind(self, ops: int, name: str) -> str:
        member = self._layout.member(name)
        return escape(self._session.memory.cstring(ops + member.offset, member.size))
