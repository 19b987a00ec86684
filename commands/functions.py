"""Convenience functions for GDB's own expressions: `print $skb_shinfo(skb)->nr_frags`."""

from __future__ import annotations

from collections.abc import Callable

import gdb

from gdb_kdump import session, walks
from gdb_kdump.debuginfo.objects import address_of
from gdb_kdump.errors import KdumpError, UsageError
from gdb_kdump.kernel.lib.containers import walk_container
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.layout.members import find_path
from gdb_kdump.records.elements import Break
from gdb_kdump.session import Session
from gdb_kdump.text import escape


class Function(gdb.Function):
    """A convenience function: `body` takes the session and GDB's values."""

    def __init__(self, name: str, help: str, body: Callable[..., gdb.Value]) -> None:
        self.__doc__ = help
        self._name, self._body = name, body
        super().__init__(name)

    def invoke(self, *values: gdb.Value) -> gdb.Value:
        """Call the body; raises gdb.GdbError with one sentence."""
        try:
            return self._body(session.current(), *values)
        except KdumpError as error:
            raise gdb.GdbError(escape(f"${self._name}: {error}")) from None


def skb_shinfo(session: Session, skb: gdb.Value) -> gdb.Value:
    return _pointer(session.layout.struct("skb_shared_info"), session.once(Skbs).skb_end_pointer(int(skb)))


def skb_end_pointer(session: Session, skb: gdb.Value) -> gdb.Value:
    return _pointer(session.debuginfo.type("unsigned char"), session.once(Skbs).skb_end_pointer(int(skb)))


def task(session: Session, pid: gdb.Value) -> gdb.Value:
    named = session.once(Tasks).find_by_pid(int(pid))
    if named is None:
        raise UsageError(f"no task has PID {int(pid)}; kps lists them")
    return _pointer(session.layout.struct("task_struct"), named.addr)


def per_cpu(session: Session, variable: gdb.Value, cpu: gdb.Value) -> gdb.Value:
    number, percpu = int(cpu), session.once(PerCpu)
    if number not in range(percpu.nr_cpu_ids):
        raise UsageError(f"there is no CPU {number}; there are {percpu.nr_cpu_ids}")
    is_name = variable.type.strip_typedefs().code == gdb.TYPE_CODE_ARRAY and variable.address is None
    if is_name:
        return percpu_symbol(session, variable.string(), number)
    find = session.debuginfo.find_percpu_address
    known = None if variable.address is None else find(int(variable.address))
    if known is not None:
        return _pointer(variable.type, percpu.pointer(known, number)).dereference()
    if variable.type.strip_typedefs().code != gdb.TYPE_CODE_PTR:
        raise UsageError("that is no per-CPU variable: give its name, or a pointer to per-CPU data")
    # As in `struct x __percpu *`, or the address of a variable.
    known = find(int(variable))
    target = percpu.pointer(int(variable) if known is None else known, number)
    return _pointer(variable.type.strip_typedefs().target(), target).dereference()


def percpu_symbol(session: Session, name: str, cpu: int) -> gdb.Value:
    symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    addr = session.once(PerCpu).symbol(name, cpu)
    target = (symbol.type if symbol is not None else None) or session.debuginfo.type("unsigned long")
    return _pointer(target, addr).dereference()


def container_of(session: Session, pointer: gdb.Value, struct: gdb.Value, member: gdb.Value) -> gdb.Value:
    tag = struct.string().removeprefix("struct ").strip()
    struct_type = session.layout.struct(tag)
    inner = find_path(struct_type, member.string())
    if inner is None:
        raise UsageError(f"struct {tag} has no member {member.string()}")
    return _pointer(struct_type, int(pointer) - inner.offset)


def kwalk(session: Session, kind: gdb.Value, head: gdb.Value, *place: gdb.Value) -> gdb.Value:
    """An array of the elements, pointers to what has its node at `place` ("STRUCT.MEMBER"), else void pointers."""
    gaps, addrs = walks.Gaps(), list[int]()
    with walks.walk("the container", gaps) as steps:
        for step in steps(walk_container(session, kind.string(), _head(head))):
            if isinstance(step, Break):
                gaps.note(str(step))
            elif step.value is None:
                addrs.append(step.addr)
    for sentence in gaps:
        gdb.write(escape(f"warning: {sentence}") + "\n", gdb.STDERR)
    target, offset = _placed(session, place[0].string()) if place else (session.debuginfo.type("void"), 0)
    if not addrs:
        raise UsageError("the container has no elements")
    data = b"".join(((addr - offset) & (1 << 64) - 1).to_bytes(8, "little") for addr in addrs)
    most = gdb.parameter("max-value-size")
    if isinstance(most, int) and 0 <= most < len(data):  # GDB 13 dies of a larger one
        raise UsageError(f"{len(addrs)} elements are more than a value of GDB takes (set max-value-size {len(data)})")
    return gdb.Value(data, target.pointer().array(len(addrs) - 1))


def _head(head: gdb.Value) -> int:
    """The address of a head that is given as it stands, or as a pointer to it."""
    addr = address_of(head)
    if addr is None:
        raise UsageError("the head has no address: give a pointer to it")
    return addr


def _placed(session: Session, text: str) -> tuple[gdb.Type, int]:
    tag, _, path = text.removeprefix("struct ").partition(".")
    struct = session.layout.struct(tag)
    member = find_path(struct, path) if path else None
    if member is None:
        raise UsageError(f"{text!r} is no STRUCT.MEMBER")
    return struct, member.offset


def _pointer(target: gdb.Type, addr: int) -> gdb.Value:
    return gdb.Value(addr & (1 << 64) - 1).cast(target.pointer())


FUNCTIONS = (
    ("skb_shinfo", "$skb_shinfo(SKB): the struct skb_shared_info * of a struct sk_buff *.", skb_shinfo),
    ("skb_end_pointer", "$skb_end_pointer(SKB): the end of the linear buffer of a struct sk_buff *.", skb_end_pointer),
    ("task", "$task(PID): the struct task_struct * of the task with that PID.", task),
    (
        "per_cpu",
        "$per_cpu(VARIABLE, CPU): that CPU's copy of a per-CPU variable, its name or a pointer to it.",
        per_cpu,
    ),
    (
        "container_of",
        '$container_of(POINTER, "STRUCT", "MEMBER"): the object that has MEMBER at POINTER.',
        container_of,
    ),
    (
        "kwalk",
        '$kwalk("KIND", HEAD[, "STRUCT.MEMBER"]): the elements of a container, an array of pointers; see help kwalk.',
        kwalk,
    ),
)
