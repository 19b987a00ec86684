"""use-after-free: what was used has been freed: it is on a free list, or another owner has the memory.

Looks like it and is not: a freed sk_buff whose address is still in some register of an outer frame.  So what was used
must be at the fault itself, or a socket that is found as the kernel does, through its file.
"""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import (
    fault_pointers,
    find_object,
    first_real,
    freer_of,
    function_name,
    name_of,
    near_functions,
    tracks_told,
    wild_values,
    words_of,
)
from gdb_kdump.diagnosis.pointers import registers_in
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.mm.typed_caches import TypedCaches
from gdb_kdump.kernel.net.holders import Holders
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.records.skb import Held
from gdb_kdump.records.slab import FREE, SlabObject
from gdb_kdump.text import hex16, is_kernel_address
from gdb_kdump.walks import Gaps, walk

_FRAMES = 12  # the innermost, with those that are inlined, in whose registers sockets are looked for


def use_after_free(case: Case) -> Cause | None:
    """A socket that its file still leads to, the sk_buff at the fault, or an object that holds the wild pointer."""
    return _of_socket(case) or _of_skb(case) or _of_object(case) or _of_given_away(case)


def _of_socket(case: Case) -> Cause | None:
    """file -> socket -> sk: the struct sock is gone, though a struct socket still has its address."""
    session = case.session
    for socket in _sockets(case):
        try:
            sk = session.pointer(socket, "socket.sk")
            back = session.pointer(sk, "sock.sk_socket") if sk else socket
            protocol = session.pointer(sk, "sock.__sk_common.skc_prot") if sk else 0
        except (Unreadable, MissingDebugInfo):
            continue
        if not sk or back == socket or protocol in _protocols(case):
            continue
        found = find_object(case, sk)
        owner = _owner(case, sk, found)
        if owner is None:
            continue
        message = (
            f"socket {hex16(socket)} of an open file leads to a struct sock at {hex16(sk)} that was freed: {owner}"
        )
        evidence = [
            Evidence(f"the sk of socket {hex16(socket)} is {hex16(sk)}", f"kstruct socket.sk {hex16(socket)}"),
            Evidence(f"that is {owner}", f"kslab {hex16(sk)}"),
            *(tracks_told(case, found) if found is not None else ()),
        ]
        culprit = freer_of(case, found) if found is not None and found.state == FREE else None
        return Cause("use-after-free", message, CERTAIN, tuple(evidence), sk, "", culprit)
    return None


def _sockets(case: Case) -> list[int]:
    """Every struct socket in the frames: by its type, or in a register by its cache, which has only such."""
    tags = case.session.once(TypedCaches)
    sockets = [pointer.value for pointer in case.pointers if pointer.type == "socket"]
    for pointer in registers_in(case.trip.outward[:_FRAMES], case.session.arch):
        found = find_object(case, pointer.value)
        if found is not None and found.start == pointer.value and tags.tag(found.cache.addr) == "socket_alloc":
            sockets.append(pointer.value)
    return list(dict.fromkeys(sockets))


def _owner(case: Case, addr: int, found: SlabObject | None) -> str | None:
    """Whose the memory of a struct that began at an address is now; None where that may still be the struct."""
    if found is None:
        allocation = case.session.once(Allocations).of(addr)
        return {"free": "a page that nobody has", "page": "a page that is no slab's"}.get(allocation.kind)
    if found.state == FREE:
        return f"{name_of(case, found)}"
    inside = f"{addr - found.start} bytes into " if addr != found.start else ""
    return f"{inside}{name_of(case, found)}"


def _protocols(case: Case) -> frozenset[int]:
    """Every struct proto; net/core/sock.c: proto_list."""
    session, protocols = case.session, set[int]()
    try:
        head, node = session.debuginfo.address("proto_list"), session.layout.offset("proto.node")
        with walk("the protocols") as steps:
            for link in steps(list_for_each(session, head)):
                protocols.add(link - node)
    except (Unreadable, MissingDebugInfo, Corrupt):
        pass
    return frozenset(protocols)


def _of_skb(case: Case) -> Cause | None:
    """The sk_buff at the fault is free, and it is no free of it that has failed."""
    skb = case.skb
    if skb is None or case.found("skb.freed") is None or case.trip.place.startswith("mm/"):
        return None
    near = near_functions(case)
    typed = {pointer.value for pointer in case.pointers if pointer.type == "sk_buff" and pointer.function in near}
    at_fault = {pointer for pointer, _ in fault_pointers(case)}
    if skb.addr not in typed | at_fault and not at_fault & {skb.end, skb.members.head}:
        return None
    found, buffer = find_object(case, skb.addr), find_object(case, skb.members.head)
    if found is None or found.state != FREE:
        return None
    # A register may still have what was freed rightly: the pointer that led nowhere must come from it.
    holders = [one for one in (found, buffer) if one is not None]
    is_source = any(wild_values(case) & set(words_of(case, one)) for one in holders)
    if not is_source and skb.addr not in typed:
        return None
    evidence = [Evidence(f"it is {name_of(case, found)}", f"kslab {hex16(skb.addr)}"), *tracks_told(case, found)]
    reused = ""
    if buffer is not None:
        reused = f"; its buffer is {name_of(case, buffer)}" + (" by now" if buffer.state != FREE else ", too")
        evidence.append(Evidence(f"head leads to {name_of(case, buffer)}", f"kslab {hex16(skb.members.head)}"))
    culprit = find_culprit(case.trip.outward, "it, or what it called, used the sk_buff after it was freed")
    message = f"sk_buff {hex16(skb.addr)} was used after it was freed{reused}"
    certainty = CERTAIN if is_source else LIKELY
    return Cause("use-after-free", message, certainty, tuple(evidence), skb.addr, "", culprit)


def _of_object(case: Case) -> Cause | None:
    """A free object that a register points to holds the pointer which led nowhere."""
    wild = wild_values(case)
    for pointer, register in fault_pointers(case) if wild else ():
        found = find_object(case, pointer)
        if found is None or found.state != FREE or not wild & set(words_of(case, found)):
            continue
        led = hex16(case.trip.address or 0)
        message = f"{name_of(case, found)} was used after it was freed: it holds the pointer that led to {led}"
        evidence = (
            Evidence(f"{register} points to {name_of(case, found)}", f"kslab {hex16(found.start)}"),
            *tracks_told(case, found),
        )
        culprit = find_culprit(case.trip.outward, "it, or what it called, used that object")
        return Cause("use-after-free", message, LIKELY, evidence, found.start, "", culprit)
    return None


def _of_given_away(case: Case) -> Cause | None:
    """A driver uses an sk_buff that stands on a socket's queue: it had given it away, or freed it and it is another's.

    include/net/udp.h: UDP keeps notes where the device was (dev_scratch), so such a use of dev leads nowhere.  The same
    notes may stand in several sk_buffs.
    """
    fault = first_real(case.trip.outward)
    wild = {value for value in wild_values(case) if not is_kernel_address(value) and value >> 32}
    if not wild or fault is None or fault.source.module is None:
        return None
    try:
        noted = [skb for skb in case.session.once(SkbObjects).all(Gaps()) if _dev(case, skb) in wild]
    except (Unreadable, MissingDebugInfo, Corrupt):
        return None
    noted = [skb for skb in noted if case.session.once(Holders).of(skb) is Held.QUEUE]
    if not noted:
        return None
    dev = hex16(_dev(case, noted[0]))
    one = len(noted) == 1
    which = f"sk_buff {hex16(noted[0])} has" if one else f"{len(noted)} sk_buffs have, such as {hex16(noted[0])},"
    message = (
        f"{function_name(fault.source)} followed {dev}, which {which} in place of dev, on a queue: UDP's notes, and no "
        "device; it used an sk_buff that it had given away, or freed and somebody else has"
    )
    evidence = (
        Evidence(f"dev is {dev}", f"kstruct sk_buff.dev,next,prev {hex16(noted[0])}"),
        Evidence("where that sk_buff stands", f"kwhat {hex16(noted[0])}"),
    )
    culprit = find_culprit([fault], "it used that pointer")
    return Cause("use-after-free", message, LIKELY, evidence, noted[0] if one else None, "dev", culprit)


def _dev(case: Case, skb: int) -> int:
    try:
        return case.session.pointer(skb, "sk_buff.dev")
    except Unreadable:
        return 0
