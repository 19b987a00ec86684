"""BPF programs on network devices: XDP and tcx; net/core/dev.c: dev_xdp_prog, kernel/bpf/tcx.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.net.devices import NetDevice, NetDevices
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.layout.members import array_length
from gdb_kdump.records.code import Code, Hook, Place
from gdb_kdump.session import Session
from gdb_kdump.text import escape, is_kernel_address
from gdb_kdump.walks import Gaps


class Programs:
    """Reads the programs of one session's devices."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layout = session.layout
        self._nets = session.once(Nets)
        self._devices = session.once(NetDevices)
        self._types = {number: name for name, number in session.layout.enumerators("bpf_prog_type").items()}

    def all(self, gaps: Gaps) -> Iterator[Hook]:
        """Each program of each device, by what holds it; raises MissingDebugInfo."""
        if self._layout.find_struct("bpf_prog") is None:
            return
        for device in self._devices.all(gaps):
            try:
                for kind, where, prog in (*self._xdp(device), *self._tcx(device)):
                    yield self._read(kind, where, prog, device)
            except (Unreadable, Corrupt) as error:
                gaps.note(f"BPF programs of {device.name}: {error}")

    def _xdp(self, device: NetDevice) -> Iterator[tuple[str, str, int]]:
        """Since v5.9 the core has the programs of drivers, too; before, it had the generic one only."""
        layout, session = self._layout, self._session
        states = layout.find_member("net_device.xdp_state")
        if states is None:
            generic = layout.find_member("net_device.xdp_prog")
            prog = session.memory.ptr(device.addr + generic.offset) if generic is not None else 0
            if prog:
                yield "xdp", "generic", prog
            return
        modes = {number: name for name, number in layout.enumerators("bpf_xdp_mode").items()}
        for mode in range(array_length(states)):
            state = device.addr + states.offset + mode * layout.size("bpf_xdp_entity")
            prog, link = (session.pointer(state, f"bpf_xdp_entity.{name}") for name in ("prog", "link"))
            if link:
                prog = session.pointer(link, "bpf_xdp_link.prog")
            if prog:
                yield "xdp", modes.get(mode, str(mode)).replace("XDP_MODE_", "").lower(), prog

    def _tcx(self, device: NetDevice) -> Iterator[tuple[str, str, int]]:
        """Since v6.6: a struct bpf_mprog_entry * for each direction, whose programs end in NULL."""
        for name in ("ingress", "egress"):
            member = self._layout.find_member(f"net_device.tcx_{name}")
            entry = self._session.memory.ptr(device.addr + member.offset) if member is not None else 0
            if not entry:
                continue
            items = self._layout.member("bpf_mprog_entry.fp_items")
            size = self._layout.size("bpf_mprog_fp")
            for number in range(array_length(items)):
                prog = self._session.pointer(entry + items.offset + number * size, "bpf_mprog_fp.prog")
                if not prog:
                    break
                yield "tcx", name, prog

    def _read(self, kind: str, where: str, prog: int, device: NetDevice) -> Hook:
        if not is_kernel_address(prog) or prog & 7:
            raise Corrupt(prog, "no struct bpf_prog")
        session = self._session
        aux, tag = session.pointer(prog, "bpf_prog.aux"), self._layout.member("bpf_prog.tag")
        name = self._layout.find_member("bpf_prog_aux.name")
        text = escape(session.memory.cstring(aux + name.offset, name.size)) if name is not None else ""
        digits = session.memory.read(prog + tag.offset, tag.size).hex()
        number = session.number(prog, "bpf_prog.type")
        kind_of = self._types.get(number, str(number)).replace("BPF_PROG_TYPE_", "").lower()
        ident = self._layout.find_member("bpf_prog_aux.id")
        detail = f"{kind_of}, tag {digits}"
        if ident is not None:
            detail += f", id {session.number(aux, 'bpf_prog_aux.id')}"
        net = self._devices.net(device)
        # The name that its code has in /proc/kallsyms; kernel/bpf/core.c: bpf_get_prog_name.
        symbol = f"bpf_prog_{digits}" + (f"_{text}" if text else "")
        code = Code(session.pointer(prog, "bpf_prog.bpf_func"), symbol, Place.BPF)
        return Hook(kind, where, prog, code, net, self._nets.inum(net), device.name, None, detail)
