"""Queues that are no struct sk_buff_head: each law alone, on records made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.records.queue import BadLink, DeadEnd, Queue, TreeNode
from gdb_kdump.rules import judge_queue
from gdb_kdump.rules.findings import CORRUPT, SUSPECT

BASE = 0xFFFF888003A40000
HEAD = 0xFFFF888003C00168
SOCK = 0xFFFF888003C00000
WILD = 0x4002030400585A08

COLOUR = "rbnode.__rb_parent_color"


def address(number: int) -> int:
    """Of the node with that number; 0 is no node."""
    return BASE + number * 0x100 if number else 0


def tree(*shape: tuple[int, int, bool, int, int, int], **changes: object) -> Queue:
    """A queue from (node, parent, is_black, left, right, seq), nodes by number and in order."""
    nodes = tuple(
        TreeNode(address(n), address(parent), address(parent), black, address(left), address(right), seq)
        for n, parent, black, left, right, seq in shape
    )
    addresses = tuple(node.addr for node in nodes)
    return replace(Queue("rtx", HEAD, len(nodes), addresses, kind="rbtree", tree=nodes), **changes)  # type: ignore[arg-type]


#       4(black)
#    2(red)     6(black)
#  1(b)  3(b)  5(r)
SHAPE = (
    (1, 2, True, 0, 0, 100),
    (2, 4, False, 1, 3, 200),
    (3, 2, True, 0, 0, 300),
    (4, 0, True, 2, 6, 400),
    (5, 6, False, 0, 0, 500),
    (6, 4, True, 5, 0, 600),
)
TREE = tree(*SHAPE)


def with_node(number: int, **changes: object) -> Queue:
    """TREE with one node changed."""
    nodes = tuple(
        replace(node, **changes) if node.addr == address(number) else node  # type: ignore[arg-type]
        for node in TREE.tree
    )
    return replace(TREE, tree=nodes)


NODES = tuple(address(n) for n in (1, 2, 3))
BACKLOG = Queue("backlog", HEAD, 3000, NODES, kind="backlog", tail=("tail", NODES[-1]), truesize=3000)
ACCEPT = Queue("accept", HEAD, 3, NODES, kind="accept", tail=("rskq_accept_tail", NODES[-1]), sock=SOCK)

HEALTHY = {
    "tree": TREE,
    "empty tree": tree(),
    "empty tree, whose last sk_buff is remembered": tree(tail=("ooo_last_skb", address(9))),
    "tree of one": tree((1, 0, True, 0, 0, 100)),
    "tree that knows its last": replace(TREE, tail=("ooo_last_skb", address(6))),
    "sequence numbers wrap": tree(*[(*node[:5], (0xFFFFFE00 + node[5]) & 0xFFFFFFFF) for node in SHAPE]),
    "equal sequence numbers": tree(*[(*node[:5], 7) for node in SHAPE]),
    "a child left out by makedumpfile": tree(
        *SHAPE[:4], *SHAPE[5:], dead_ends=(DeadEnd(address(6), "rb_left", address(5), Why.FILTERED),)
    ),
    "backlog": BACKLOG,
    "empty backlog": Queue("backlog", HEAD, 0, (), kind="backlog", tail=("tail", 0)),
    "a backlog that its owner has taken": replace(BACKLOG, nodes=(), truesize=0, tail=("tail", 0), is_busy=True),
    "coalesced backlog": replace(BACKLOG, qlen=2500),
    "backlog cut short by makedumpfile": replace(BACKLOG, nodes=NODES[:1], hole=Unreadable(NODES[1], Why.FILTERED)),
    "accept queue": ACCEPT,
}

DAMAGED: dict[str, tuple[Queue, str, int, str]] = {
    "parent elsewhere": (with_node(3, parent=address(6)), "queue.link", address(3), COLOUR),
    "parent wild": (with_node(5, parent=WILD), "queue.link", address(5), COLOUR),
    "red root": (with_node(4, is_black=False), "queue.link", address(4), COLOUR),
    "red under red": (with_node(1, is_black=False), "queue.link", address(1), COLOUR),
    "one black too many": (with_node(5, is_black=True), "queue.link", address(5), COLOUR),
    "one black too many below": (with_node(2, is_black=True), "queue.link", address(2), COLOUR),
    "child wild": (
        tree(*SHAPE[:4], *SHAPE[5:], dead_ends=(DeadEnd(address(6), "rb_left", WILD, Why.UNMAPPED),)),
        "queue.link",
        address(6),
        "rbnode.rb_left",
    ),
    "child leads back": (
        replace(TREE, dead_ends=(DeadEnd(address(1), "rb_left", address(4), None),)),
        "queue.link",
        address(1),
        "rbnode.rb_left",
    ),
    "root wild": (
        tree(dead_ends=(DeadEnd(0, "rb_node", WILD, Why.UNMAPPED),)),
        "queue.link",
        HEAD,
        "rb_node",
    ),
    "sequence number too large": (with_node(2, seq=5000), "queue.link", address(2), "cb"),
    "sequence number too small": (with_node(5, seq=50), "queue.link", address(5), "cb"),
    "first sequence number too large": (with_node(1, seq=5000), "queue.link", address(1), "cb"),
    "last sequence number too small": (with_node(6, seq=50), "queue.link", address(6), "cb"),
    "last is another": (replace(TREE, tail=("ooo_last_skb", address(3))), "queue.link", HEAD, "ooo_last_skb"),
    "backlog's tail is another": (replace(BACKLOG, tail=("tail", NODES[0])), "queue.link", HEAD, "tail"),
    "backlog's tail is stale": (
        Queue("backlog", HEAD, 0, (), kind="backlog", tail=("tail", NODES[0])),
        "queue.link",
        HEAD,
        "tail",
    ),
    "backlog leads to another queue": (replace(BACKLOG, astray=SOCK), "queue.link", NODES[-1], "next"),
    "backlog in a circle": (replace(BACKLOG, cycle=NODES[0]), "queue.cycle", NODES[-1], "next"),
    "backlog leads out of memory": (
        replace(BACKLOG, hole=Unreadable(WILD, Why.UNMAPPED)),
        "queue.link",
        NODES[-1],
        "next",
    ),
    "backlog of no bytes": (replace(BACKLOG, qlen=0), "queue.qlen", HEAD, "len"),
    "accept queue of too many": (replace(ACCEPT, qlen=4), "queue.qlen", SOCK, "sk_ack_backlog"),
    "accept queue in a circle": (replace(ACCEPT, cycle=NODES[0]), "queue.cycle", NODES[-1], "dl_next"),
    "accept queue leads out of memory": (
        replace(ACCEPT, hole=Unreadable(WILD, Why.UNMAPPED)),
        "queue.link",
        NODES[-1],
        "dl_next",
    ),
    "next leads astray": (
        Queue("write", HEAD, 3, NODES, bad_links=(BadLink(NODES[1], NODES[2], SOCK, "next"),), astray=SOCK),
        "queue.link",
        NODES[1],
        "next",
    ),
    "next skips one": (
        Queue("write", HEAD, 4, NODES, bad_links=(BadLink(NODES[1], address(9), NODES[2], "next"),)),
        "queue.link",
        NODES[1],
        "next",
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name: str) -> None:
    assert judge_queue(HEALTHY[name]) == []


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name: str) -> None:
    record, *expected = DAMAGED[name]
    (finding,) = judge_queue(record)
    assert [finding.rule, finding.object, finding.member, finding.severity] == [*expected, CORRUPT]
    assert all((finding.expected, finding.found, finding.message))


def test_a_backlog_with_more_bytes_than_sk_buffs_may_be_at_work() -> None:
    (finding,) = judge_queue(replace(BACKLOG, qlen=103000))
    assert (finding.rule, finding.object, finding.member, finding.severity) == ("queue.qlen", HEAD, "len", SUSPECT)


def test_a_backlog_or_an_accept_queue_is_whole_only_at_its_end() -> None:
    assert BACKLOG.complete and ACCEPT.complete
    assert not replace(BACKLOG, cycle=NODES[0]).complete
    assert not replace(TREE, dead_ends=(DeadEnd(0, "rb_node", WILD, None),)).complete


def test_an_accept_queue_has_no_sk_buffs() -> None:
    assert ACCEPT.skbs == ()
    assert BACKLOG.skbs == NODES


def test_a_cpu_that_held_the_lock_may_have_been_in_the_middle() -> None:
    taking = Queue("receive", HEAD, len(NODES) - 1, NODES, is_busy=True)
    for queue, rule in (
        (taking, "queue.qlen"),
        (replace(taking, qlen=len(NODES), bad_links=(BadLink(NODES[1], NODES[0], HEAD),)), "queue.link"),
    ):
        (finding,) = judge_queue(queue)
        assert (finding.rule, finding.severity) == (rule, SUSPECT)
        (finding,) = judge_queue(replace(queue, is_busy=False))
        assert (finding.rule, finding.severity) == (rule, CORRUPT)
    (finding,) = judge_queue(replace(taking, qlen=9))
    assert finding.severity == CORRUPT


def test_a_tree_may_have_been_in_the_middle_of_a_rotation() -> None:
    for queue in (with_node(5, is_black=True), with_node(5, parent=address(4)), with_node(3, seq=50)):
        (finding,) = judge_queue(replace(queue, is_busy=True))
        assert finding.severity == SUSPECT and "may have been in the middle" in finding.message
        (finding,) = judge_queue(queue)
        assert finding.severity == CORRUPT
    wild = tree(*SHAPE[:4], *SHAPE[5:], dead_ends=(DeadEnd(address(6), "rb_left", WILD, Why.UNMAPPED),), is_busy=True)
    assert {finding.severity for finding in judge_queue(wild)} == {CORRUPT}
    nodes = tuple(replace(node, parent=WILD) for node in TREE.tree)
    assert {finding.severity for finding in judge_queue(replace(TREE, tree=nodes, is_busy=True))} == {CORRUPT}


def test_what_a_qdisc_counts_on_other_queues() -> None:
    queue = Queue(
        "qdisc pfifo of eth0", HEAD, len(NODES) + 2, NODES, kind="chain", elsewhere=2, tail=("tail", NODES[-1])
    )
    assert judge_queue(queue) == []
    (finding,) = judge_queue(replace(queue, elsewhere=0))
    assert (finding.rule, finding.object, finding.expected) == ("queue.qlen", HEAD, str(len(NODES)))
    (finding,) = judge_queue(replace(queue, tail=("tail", NODES[0])))
    assert (finding.rule, finding.member) == ("queue.link", "tail")
