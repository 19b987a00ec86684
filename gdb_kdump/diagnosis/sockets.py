"""Walks the queues of sockets and has their linkage, and the sockets' accounts, judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.diagnosis.checks import Checked
from gdb_kdump.errors import MissingDebugInfo, Unreadable, UsageError, Why
from gdb_kdump.kernel.net.skb_columns import Figures
from gdb_kdump.kernel.net.skb_lists import SkbLists
from gdb_kdump.kernel.net.sock import Sock, Socks
from gdb_kdump.kernel.net.sock_accounts import AccountsReader
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.rules import judge_queue, judge_sock
from gdb_kdump.rules.findings import Finding
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class JudgedQueue:
    """A queue, what the walk read of its sk_buffs, and what is wrong with its linkage.

    `nr_frags` goes by the address of the shared info; after Ctrl-C some are not known.
    `children` are the sockets in an accept queue: walked, or Unreadable where one is not in the dump.
    """

    queue: Queue
    figures: Figures
    nr_frags: dict[int, int | Why]
    findings: tuple[Finding, ...]
    children: tuple[WalkedSock | Unreadable, ...] = ()


@dataclass(frozen=True)
class WalkedSock:
    """A socket and its queues; `gaps` say why there may be more of those."""

    sock: Sock
    queues: tuple[JudgedQueue, ...]
    gaps: tuple[str, ...]

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with any of the queues, those of sockets in an accept queue among them."""
        own = [finding for judged in self.queues for finding in judged.findings]
        return own + [finding for child in self.children for finding in child.findings]

    @property
    def children(self) -> list[WalkedSock]:
        """The sockets in its accept queue that could be walked."""
        return [child for judged in self.queues for child in judged.children if isinstance(child, WalkedSock)]

    @property
    def all_queues(self) -> list[Queue]:
        """Its queues, then those of its children."""
        own = [judged.queue for judged in self.queues]
        return own + [queue for child in self.children for queue in child.all_queues]


def walk_sock(session: Session, addr: int, wanted: Role | None = None, children: bool = True) -> WalkedSock:
    """One or all queues of a `struct sock *`, with the figures of each sk_buff, as far as the walks go.

    Raises Unreadable for the socket itself, UsageError where it has no such queue.
    """
    socks, figures, gaps = session.once(Socks), session.once(SkbLists).figures, Gaps()
    sock = socks.read(addr)
    roles = socks.roles(sock)
    if wanted is not None and wanted not in roles:
        has = ", ".join(role.value for role in roles) or "none"
        raise UsageError(f"that socket has no queue {wanted.value}; it has: {has}")
    gaps.note(*socks.gaps)
    queues: list[JudgedQueue] = []
    with walks.walk("the queues", gaps) as steps:
        for role in steps([role for role in roles if wanted in (None, role)]):
            walked = socks.walked(addr, role, nr_frags=True)
            numbers, findings = figures.nr_frags(walked), tuple(judge_queue(walked.queue))
            queues.append(JudgedQueue(walked.queue, walked.figures, numbers, findings))
            if children and role is Role.ACCEPT:
                below = tuple(_walk_children(session, walked.queue, gaps))
                queues[-1] = JudgedQueue(walked.queue, walked.figures, numbers, findings, below)
    return WalkedSock(sock, tuple(queues), tuple(gaps))


def _walk_children(session: Session, accept: Queue, gaps: Gaps) -> Iterator[WalkedSock | Unreadable]:
    with walks.walk("the sockets that wait to be accepted", gaps) as steps:
        for child in steps(session.once(Socks).children(accept)):
            try:
                yield walk_sock(session, child, children=False)
            except Unreadable as error:
                yield error.as_value()


def judge_sock_and_queues(session: Session, addr: int) -> tuple[Checked, list[Queue]]:
    """A socket, its accounts and the linkage of its queues, and these, whose sk_buffs are not judged yet.

    Raises Unreadable for the socket itself, MissingDebugInfo.
    """
    socks = session.once(Socks)
    sock, queues = socks.read(addr), socks.queues(addr)
    checked = judge_queues(session, queues)
    if sock.is_full and not walks.is_interrupted():
        try:
            accounts = session.once(AccountsReader).read(sock, [queue for queue in queues if queue.sock == addr])
            checked += Checked(findings=tuple(judge_sock(accounts)))
        except MissingDebugInfo as error:
            checked += Checked(gaps=(f"what sockets account for: {error}",))
    return checked, queues


def judge_queues(session: Session, queues: Iterable[Queue]) -> Checked:
    """The linkage of some queues."""
    queues = list(queues)
    gaps = session.once(Socks).gaps
    gaps += tuple(f"{queue.name} queues: {queue.stopped}" for queue in queues if not queue.head)
    return Checked(
        queues=sum(queue.head != 0 for queue in queues),
        findings=tuple(finding for queue in queues for finding in judge_queue(queue)),
        holes=tuple(queue.hole for queue in queues if queue.hole is not None),
        gaps=gaps,
    )
