"""Sockets and which queues of sk_buffs they have; include/net/sock.h."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.spinlocks import Spinlocks
from gdb_kdump.kernel.net.accept_queue import AcceptQueues
from gdb_kdump.kernel.net.queue_walk import QueueWalk
from gdb_kdump.kernel.net.skb_chains import SkbChains
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.kernel.net.skb_trees import SkbTrees
from gdb_kdump.kernel.stack.interrupted import Interruption
from gdb_kdump.layout.net import skb_queue_is_tree
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session

# The logical members that hold the queues of sockets.
QUEUES = {
    Role.WRITE: "sock.sk_write_queue",
    Role.RECEIVE: "sock.sk_receive_queue",
    Role.ERROR: "sock.sk_error_queue",
    Role.BACKLOG: "sock.sk_backlog",
    Role.RTX: "sock.tcp_rtx_queue",
    Role.OFO: "tcp_sock.out_of_order_queue",
    Role.READER: "udp_sock.reader_queue",
    Role.ACCEPT: "inet_connection_sock.icsk_accept_queue",
}

# 75c119afe14f (v4.15) tcp: implement rb-tree based retransmit queue; 2276f58ac589 (v4.13) udp: use a separate rx queue
# for packet reception.
_NOT_EVERYWHERE = (Role.RTX, Role.READER)

_KIND = ("sk_type", "sk_protocol")  # 0 where the types lack them: no kind of socket is that

# Numbers of the user API, include/uapi/linux/in.h and include/linux/socket.h, and include/net/tcp_states.h.
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17
_SOCK_STREAM, _SOCK_DGRAM = 1, 2
_IPPROTO_TCP, _IPPROTO_UDP, _IPPROTO_DCCP, _IPPROTO_UDPLITE = 6, 17, 33, 136
_TCP_TIME_WAIT, TCP_LISTEN, _TCP_NEW_SYN_RECV = 6, 10, 12


@dataclass(frozen=True)
class Sock:
    """A struct sock: `family` is AF_*, `type` SOCK_*, `protocol` IPPROTO_*, `state` TCP_* whatever the family.

    Of the two small kinds, inet_timewait_sock and request_sock, only the struct sock_common is there: `type` and
    `protocol` are 0 then.
    """

    addr: int
    family: int
    type: int
    protocol: int
    state: int
    refcnt: int

    @property
    def is_full(self) -> bool:
        """Whether it is a struct sock and not one of the small kinds; include/net/sock.h: sk_fullsock."""
        return not self.is_inet or self.state not in (_TCP_TIME_WAIT, _TCP_NEW_SYN_RECV)

    @property
    def is_time_wait(self) -> bool:
        """Whether it is a struct inet_timewait_sock, what is left of a closed connection."""
        return self.is_inet and self.state == _TCP_TIME_WAIT

    @property
    def is_inet(self) -> bool:
        return self.family in (AF_INET, AF_INET6)

    @property
    def is_tcp(self) -> bool:
        return self.is_inet and self.is_full and self.type == _SOCK_STREAM and self.protocol == _IPPROTO_TCP

    @property
    def is_udp(self) -> bool:
        return self.is_inet and self.type == _SOCK_DGRAM and self.protocol in (_IPPROTO_UDP, _IPPROTO_UDPLITE)

    @property
    def is_listener(self) -> bool:
        """Whether it has an accept queue of request_socks; a UNIX one's is its receive queue."""
        return self.state == TCP_LISTEN and (self.is_tcp or (self.is_inet and self.protocol == _IPPROTO_DCCP))


class Socks:
    """Reads the sockets of one session and walks their queues."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._layout = layout = session.layout
        self._common = layout.unpacker("sock", ("family", "state", "refcnt"))
        self._sock = layout.unpacker("sock", _KIND, dict.fromkeys(_KIND, 0))
        self.gaps = tuple(str(MissingDebugInfo(f"member sock.{name}")) for name in layout.absent("sock", _KIND))
        """Why it is not known which queues sockets have besides those that all have."""
        self._spinlock = layout.find_member("sock.spinlock")
        self._session = session

    def read(self, sock: int) -> Sock:
        """The socket at a `struct sock *`; raises Unreadable."""
        family, state, refcnt = self._common.unpack_from(*self._memory.block(sock, self._common.span))
        small = Sock(sock, family, 0, 0, state, refcnt)
        if not small.is_full:
            return small
        type_, protocol = self._sock.unpack_from(*self._memory.block(sock, self._sock.span))
        return Sock(sock, family, type_, protocol, state, refcnt)

    def is_locked(self, sock: int) -> bool:
        """Whether somebody was at work on a `struct sock *`: a task that owns it, or a CPU that held its spinlock.

        include/net/sock.h: sock_owned_by_user.  True also where nothing says that it was not.  Raises Unreadable.
        """
        if self._layout.find_member("sock.lock_owned") is None:
            return True
        owned = self._session.number(sock, "sock.lock_owned")
        if owned or self._spinlock is None:
            return bool(owned)
        return self._session.once(Spinlocks).is_held(sock + self._spinlock.offset)

    def roles(self, sock: Sock) -> tuple[Role, ...]:
        """The queues (keys of QUEUES) that a socket has, as its family, type and protocol say.

        A UNIX listener's accept queue is its receive queue; so are those of netlink and packet sockets.
        """
        if not sock.is_full:
            return ()
        roles = [Role.WRITE, Role.RECEIVE, Role.ERROR, Role.BACKLOG]
        if sock.is_tcp:
            roles += [Role.RTX, Role.OFO]
        if sock.is_udp:
            roles.append(Role.READER)
        if sock.is_listener:
            roles.append(Role.ACCEPT)
        return tuple(role for role in roles if role not in _NOT_EVERYWHERE or self._may_have(role))

    def _may_have(self, role: Role) -> bool:
        """Whether this kernel has a queue that not every kernel has, or nothing says that it has not."""
        layout, member = self._layout, QUEUES[role]
        return layout.find_struct(member.split(".")[0]) is None or layout.find_member(member) is not None

    def queues(self, sock: int, children: bool = True) -> list[Queue]:
        """Every queue of a `struct sock *`, walked whole, and with `children` those of the sockets it has not accepted.

        `Queue.sock` says whose it is.  Raises Unreadable for the socket itself.
        """
        found = [walked.queue for walked in self.all_walked(self.read(sock))]
        for queue in list(found) if children else []:
            for child in self.children(queue):
                try:
                    found += self.queues(child, children=False)
                except Unreadable:
                    continue  # the pages of a child are not in the dump
        return found

    def all_walked(self, sock: Sock) -> list[QueueWalk]:
        """Every queue of a socket with the figures of its sk_buffs; raises Unreadable."""
        return [self.walked(sock.addr, role) for role in self.roles(sock)]

    def walked(self, sock: int, role: Role, nr_frags: bool = False) -> QueueWalk:
        """One queue (a key of QUEUES) of a `struct sock *` that has it, with its figures; raises Unreadable.

        With `nr_frags` SkbFigures.nr_frags has them sooner.  Where the types lack what this queue alone needs, its
        `stopped` says so, and its head is 0.
        """
        lists = self._session.once(SkbLists)  # without what these need it is no use to walk any queue
        try:
            walk = self._walked(lists, sock, role, nr_frags)
        except MissingDebugInfo as error:
            unknown = Queue(role.value, 0, 0, (), sock=sock, stopped=str(error), role=role)
            return QueueWalk(unknown, lists.figures.empty())
        queue = walk.queue
        if queue.kind not in ("list", "rbtree") or queue.is_busy or not (queue.nodes or queue.qlen or queue.bad_links):
            return walk
        # TCP's own queues have no lock but the socket's; net/ipv4/tcp.c.
        is_busy = self.is_locked(sock) and self._session.once(Interruption).possible()
        return replace(walk, queue=replace(queue, is_busy=True)) if is_busy else walk

    def _walked(self, lists: SkbLists, sock: int, role: Role, nr_frags: bool) -> QueueWalk:
        if role is Role.BACKLOG:
            backlog = self._session.once(SkbChains).backlog(sock)
            return replace(backlog, queue=replace(backlog.queue, is_busy=self.is_locked(sock)))
        if role is Role.ACCEPT:
            return self._session.once(AcceptQueues).walk(sock)
        member = self._layout.member(QUEUES[role])
        if not skb_queue_is_tree(member):
            return lists.linked(role.value, sock + member.offset, sock, role, nr_frags)
        last = None
        if role is Role.OFO:
            last = "ooo_last_skb", self._session.pointer(sock, "tcp_sock.ooo_last_skb")
        return self._session.once(SkbTrees).walk(role.value, sock + member.offset, sock, role, last)

    def children(self, queue: Queue) -> list[int]:
        """The sockets (`struct sock *`) that wait in an accept queue; none for other queues."""
        found = []
        for request in queue.nodes if queue.kind == "accept" else ():
            try:
                found.append(self._session.once(AcceptQueues).child(request))
            except Unreadable:
                continue  # the request ends on a page that is not in the dump
        return [child for child in found if child]
