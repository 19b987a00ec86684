"""Invariants between a socket and the sk_buffs on its queues."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.records.queue import Role
from gdb_kdump.records.sock import SockAccounts
from gdb_kdump.rules import tcp
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.text import hex16, is_kernel_address

# Families without a struct proto that counts memory; include/net/sock.h: sk_has_account.
_UNRESERVED = ("unix", "netlink", "packet")
_SATURATED = 0x3FFFFFFF  # include/linux/refcount.h: REFCOUNT_SATURATED is beyond
_MAX_OVERCHARGED = 1 << 17  # bytes: all but a byte of each page, in an sk_buff or two
_IP_HEADERS = (20, 256)  # bytes: without and with options or extension headers


def accounting(sock: SockAccounts) -> Iterator[Finding]:
    """What a socket has accounted for is what its queues hold.

    Mirrors include/net/sock.h: sk_wmem_queued_add, sk_mem_charge, net/core/sock.c: sock_wfree, sk_alloc, which starts
    sk_wmem_alloc at 1, and net/ipv4/udp.c: udp_rmem_release.  Traps: somebody who holds the lock may be between the
    two steps; what is on its way through a device counts as written, too, and one more is held while a writer is told
    of room (sock_wfree), or TCP is to send more (tcp_wfree).  A datagram that is being made is charged when it is
    complete (ip_make_skb), and what is being freed was given back already: only what is on a list is there for certain.
    A socket that sk_destruct() works on has neither a reference nor a writer, and its queues are half empty.
    """
    severity = SUSPECT if sock.is_locked else CORRUPT
    if not sock.refcnt and not sock.wmem_alloc:
        message = "no reference and no writer is left: it is being freed, or should have been"
        yield _finding(sock, "__sk_common.skc_refcnt", SUSPECT, "at least 1", 0, message)
        return
    if not 0 < sock.refcnt <= _SATURATED:
        message = "nobody holds the socket, yet it is here" if not sock.refcnt else "the reference count overflowed"
        yield _finding(sock, "__sk_common.skc_refcnt", CORRUPT, "at least 1", sock.refcnt, message)
    if not 0 < sock.wmem_alloc <= _SATURATED:
        message = "the count is saturated: it was taken below 0, or overflowed"
        message = message if sock.wmem_alloc else "no writer's reference is left, yet the socket is alive"
        yield _finding(sock, "sk_wmem_alloc", CORRUPT, "at least 1", sock.wmem_alloc, message)
    elif sock.kind == "udp" and sock.wmem_alloc < sock.truesize.get(Role.WRITE, 0) + 1:
        held = sock.truesize[Role.WRITE]
        message = f"the write queue alone holds {held} bytes"
        yield _finding(sock, "sk_wmem_alloc", severity, f"at least {held + 1}", sock.wmem_alloc, message)
    elif sock.written is not None and not sock.written[0] + 1 <= sock.wmem_alloc <= sock.written[1] + 2:
        message = f"the sk_buffs that it has written hold {sock.written[1]} bytes"
        yield _finding(sock, "sk_wmem_alloc", SUSPECT, str(sock.written[1] + 1), sock.wmem_alloc, message)
    yield from _reserved(sock, severity)
    if sock.kind == "tcp" and {Role.WRITE, Role.RTX} <= sock.truesize.keys():
        held = sock.truesize[Role.WRITE] + sock.truesize[Role.RTX]
        if sock.wmem_queued != held:
            message = f"the write and rtx queues hold {held} bytes"
            yield _finding(sock, "sk_wmem_queued", severity, str(held), sock.wmem_queued, message)
    yield from _received(sock, severity)
    yield from _corked(sock)


def _reserved(sock: SockAccounts, severity: str) -> Iterator[Finding]:
    """What is reserved for a socket, and not in use: include/net/sock.h: sk_mem_charge.

    Traps: TCP reserves for bytes, and is charged for whole pages of user space (net/core/datagram.c:
    __zerocopy_sg_from_iter); SCTP charges before it reserves (net/sctp/ulpevent.c: sctp_ulpevent_set_owner), and so
    does what works above TCP with data of its own (net/tls/tls_sw.c, net/core/skmsg.c: sk_psock_skb_ingress_enqueue).
    """
    if sock.kind in _UNRESERVED:
        if sock.forward_alloc:
            message = "nothing is ever reserved for sockets of this family"
            yield _finding(sock, "sk_forward_alloc", CORRUPT, "0", sock.forward_alloc, message)
        return
    least = -min(sock.wmem_queued, _MAX_OVERCHARGED) if sock.kind == "tcp" else 0
    if sock.kind in ("tcp", "udp") and not sock.is_layered and sock.forward_alloc < least:
        message = "more was charged than was reserved"
        yield _finding(sock, "sk_forward_alloc", severity, "at least 0", sock.forward_alloc, message)


# What these have to read may stand on no queue of theirs: without all sk_buffs of the system it is not known.
_READERS = ("tcp", "netlink", "packet")
_CHARGED = (Role.RECEIVE, Role.OFO, Role.ERROR)
_RECEIVE_QUEUES = {
    "tcp": {Role.RECEIVE, Role.OFO, Role.ERROR},
    "udp": {Role.RECEIVE, Role.READER, Role.ERROR},
    "netlink": {Role.RECEIVE, Role.ERROR},
    "packet": {Role.RECEIVE, Role.ERROR},
}


def _received(sock: SockAccounts, severity: str) -> Iterator[Finding]:
    if sock.rmem_alloc < 0:
        yield _finding(sock, "sk_rmem_alloc", CORRUPT, "at least 0", sock.rmem_alloc, "more was given back than taken")
        return
    queues = _RECEIVE_QUEUES.get(sock.kind)
    if queues is None:
        return
    held = _counter(sum(sock.truesize.get(role, 0) for role in queues) + sock.deficit)
    if not sock.truesize.keys() >= queues and sock.rmem_alloc >= held:
        return
    if held < sock.rmem_alloc and (sock.is_layered or (sock.received is not None and sock.rmem_alloc <= sock.received)):
        return
    message = f"the receive queues hold {held - sock.deficit} bytes" + (
        f", and {sock.deficit} are yet to be given back" if sock.deficit else ""
    )
    if sock.rmem_alloc < held:
        yield _finding(sock, "sk_rmem_alloc", severity, str(held), sock.rmem_alloc, message)
    elif sock.rmem_alloc > held and (sock.received is not None or sock.kind not in _READERS):
        yield _finding(sock, "sk_rmem_alloc", SUSPECT, str(held), sock.rmem_alloc, message)


def _counter(total: int) -> int:
    """A sum of truesizes as an atomic_t has it."""
    return (total + (1 << 31)) % (1 << 32) - (1 << 31)


def _corked(sock: SockAccounts) -> Iterator[Finding]:
    """net/ipv4/ip_output.c: __ip_append_data: every sk_buff has room for its IP header, and the rest is the cork.

    Trap: with IPsec the first one has room for more than the others (exthdrlen).
    """
    if sock.cork is None or sock.is_locked:
        return
    length, count, held = sock.cork
    header, rest = divmod(held - length, count)
    if rest or not _IP_HEADERS[0] <= header <= _IP_HEADERS[1] or header % 4:
        message = f"{count} sk_buffs hold {held} bytes with their IP headers"
        severity = CORRUPT if header < _IP_HEADERS[0] or header > 2 * _IP_HEADERS[1] else SUSPECT
        yield _finding(sock, "cork.base.length", severity, "len without the IP headers", length, message)


def _finding(sock: SockAccounts, member: str, severity: str, expected: str, found: int, message: str) -> Finding:
    if sock.is_locked and severity == SUSPECT:
        message += "; somebody was at work on the socket, and may have been in the middle"
    return Finding("sock.accounting", sock.addr, member, severity, expected, str(found), message)


def owner(sock: SockAccounts) -> Iterator[Finding]:
    """An sk_buff on a socket's queue belongs to that socket or to none.

    Mirrors include/net/sock.h: skb_set_owner_r, skb_set_owner_w, skb_orphan.  Traps: what a UNIX socket has received
    belongs to the sender; TCP's own write queue has no owner before it is sent; other families are left alone.
    """
    if sock.kind not in ("tcp", "udp", "netlink", "packet", "unix"):
        return
    for item in sock.owners:
        if sock.kind == "unix" or not is_kernel_address(item.sk):
            continue  # where sk is no socket at all, the rules of the sk_buff say so
        if item.sk == sock.addr and not item.is_destroyed and item.queue in _CHARGED:
            message = f"on the {item.queue.value} queue, it is charged to its socket, and nothing would give that back"
            yield Finding("skb.sk", item.skb, "destructor", CORRUPT, "a function", hex16(0), message)
        elif item.sk not in (0, sock.addr):
            message = (
                f"on the {item.queue.value} queue of {hex16(sock.addr)}, it says that it belongs to another socket"
            )
            yield Finding("skb.sk", item.skb, "sk", CORRUPT, f"{hex16(sock.addr)} or NULL", hex16(item.sk), message)


def callbacks(sock: SockAccounts) -> Iterator[Finding]:
    """What a socket calls is code: of the kernel, of a module that is loaded, or made by the kernel.

    Mirrors net/core/sock.c: sock_init_data, and who hooks in (svcsock, iscsi, kTLS, ...), which must give back what it
    has replaced before its module goes.  Trap: where nobody has hooked in, a callback may be NULL.
    """
    for one in sock.callbacks:
        if not one.is_code:
            message = f"{one.member} leads to where no code is: its module has gone, or something has written over it"
            yield Finding("sock.callback", sock.addr, one.member, CORRUPT, "a function", hex16(one.addr), message)


RULES = (accounting, owner, callbacks, *tcp.RULES)
