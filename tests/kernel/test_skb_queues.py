"""Every queue of every socket, against what the kernel itself published; and each shape of queue with damage in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def sock_of(dump: LabDump, label: str) -> dict[str, Any]:
    found: dict[str, Any] = next(sock for sock in dump.truth["socks"] if sock["label"] == label)
    return found


def queue_of(dump: LabDump, label: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(queue for queue in sock_of(dump, label)["queues"] if queue["queue"] == name)
    return found


def test_every_queue_of_every_socket(gdb_run: Gdb, dump: LabDump) -> None:
    socks, skbs = dump.truth["socks"], dump.skbs()
    run = gdb_run(*(f"skbwalk {sock['sock']} --json" for sock in socks), vmcore=dump.vmcore).succeeded()
    filled = set()
    for sock, walk in zip(socks, run.documents, strict=True):
        walked = {queue["queue"]: queue for queue in walk["queues"]}
        assert {queue["queue"] for queue in sock["queues"]} <= set(walked), sock["label"]
        for truth in sock["queues"]:
            queue, where = walked[truth["queue"]], f"{sock['label']} {truth['queue']}"
            assert (queue["head"], queue["kind"]) == (truth["head"], truth["kind"]), where
            assert (queue["qlen"], queue["walked"]) == (truth["qlen"], truth["members"]), where
            assert (queue["complete"], queue["stopped"], queue["findings"]) == (True, None, []), where
            assert [skb["skb"] for skb in queue["skbs"]][: len(truth["skbs"])] == truth["skbs"], where
            for skb in queue["skbs"][: len(truth["skbs"])]:
                members = ("len", "data_len", "nr_frags", "truesize")
                assert {name: skb[name] for name in members} == {name: skbs[skb["skb"]][name] for name in members}
            if truth["members"]:
                filled.add(truth["queue"])
    assert filled == {"write", "receive", "error", "backlog", "rtx", "ofo", "reader"}


def test_a_queue_that_the_socket_has_and_one_that_it_has_not(gdb_run: Gdb, dump: LabDump) -> None:
    tcp, udp = sock_of(dump, "tcp3.server")["sock"], sock_of(dump, "udp2.rx")["sock"]
    walks = gdb_run(
        f"skbwalk {tcp} --queue ofo --json", f"skbwalk --queue=reader {udp} --json", vmcore=dump.vmcore
    ).documents
    assert [[queue["queue"] for queue in walk["queues"]] for walk in walks] == [["ofo"], ["reader"]]
    run = gdb_run(f"skbwalk {udp} --queue ofo", vmcore=dump.vmcore)
    assert run.errors[-1].startswith("skbwalk: that socket has no queue ofo; it has: write, receive, error, backlog")
    run = gdb_run(f"skbwalk {udp} --queue nonsense", vmcore=dump.vmcore)
    assert "no queue nonsense; there are: write, " in run.errors[-1]


def test_a_listener_has_its_children(gdb_run: Gdb, dump: LabDump) -> None:
    """The truth has no accept queues, but three clients connected and nobody accepted."""
    sock = sock_of(dump, "listen0")
    walk, everything = (
        gdb_run(f"skbwalk {sock['sock']} --json", "ksock --json", vmcore=dump.vmcore).succeeded().documents
    )
    (accept,) = (queue for queue in walk["queues"] if queue["queue"] == "accept")
    assert (accept["qlen"], accept["walked"], accept["complete"], accept["skbs"]) == (3, 3, True, [])
    known = {found["sock"]: found for found in everything["socks"]}
    for child in accept["children"]:
        assert known[child["sock"]]["local"] == known[sock["sock"]]["local"] == f"127.0.0.1:{sock['sport']}"
        assert known[child["sock"]]["pid"] is None
        assert {"write", "receive", "rtx", "ofo"} <= {queue["queue"] for queue in child["queues"]}


def test_the_text_has_every_sk_buff(gdb_run: Gdb, dump: LabDump) -> None:
    sock, truth = sock_of(dump, "tcp4.server"), queue_of(dump, "tcp4.server", "backlog")
    text = gdb_run(f"skbwalk {sock['sock']}", vmcore=dump.vmcore).succeeded().stdout
    assert f"backlog queue @ {truth['head']}: qlen {truth['qlen']} bytes, walked {truth['members']}\n" in text
    assert all(skb in text for skb in truth["skbs"])


def damaged(sock: str, name: str, cases: list[list[tuple[str, str, int]]]) -> Any:
    """Judge a queue of a dump in which words were overwritten: (address, logical member, value), case by case."""
    import dataclasses
    from collections.abc import Iterator

    from gdb_kdump import session
    from gdb_kdump.dump.bulk import follow
    from gdb_kdump.kernel.net.sock import Socks
    from gdb_kdump.memory import Memory
    from gdb_kdump.records.queue import Role
    from gdb_kdump.rules import judge_queue

    opened = session.current()

    class Overwritten:
        def __init__(self, writes: list[tuple[str, str, int]]) -> None:
            self.words = []
            for addr, member, value in writes:
                place = opened.layout.member(member)
                word = (value & (1 << 8 * place.size) - 1).to_bytes(place.size, "little")
                self.words.append((int(addr, 16) + place.offset, word))

        def read(self, start: int, size: int) -> list[Any]:
            runs, at = [], start
            for run in opened.server.read(start, size):
                if isinstance(run, bytes):
                    data = bytearray(run)
                    for addr, word in self.words:
                        if at <= addr < at + len(data):
                            data[addr - at : addr - at + len(word)] = word
                    run = bytes(data)
                runs.append(run)
                at += len(run) if isinstance(run, bytes) else run.size
            return runs

        def begin_follow(self, *question: Any) -> tuple[Any, ...]:
            return question

        def blocks(self, question: tuple[Any, ...]) -> Iterator[bytes]:
            return follow(self.read, *question)

    results = []
    for writes in cases:
        memory = Memory(Overwritten(writes))  # type: ignore[arg-type]
        queue = Socks(dataclasses.replace(opened, memory=memory, _readers={})).walked(int(sock, 16), Role(name)).queue
        found = [[finding.rule, f"0x{finding.object:016x}", finding.member] for finding in judge_queue(queue)]
        results.append(
            {
                "findings": found,
                "nodes": [f"0x{node:016x}" for node in queue.nodes],
                "from_tail": [f"0x{node:016x}" for node in queue.from_tail],
                "complete": queue.complete,
            }
        )
    return results


WILD = 0x5A5A5A5A5A5A5A58


@pytest.fixture
def judge(in_gdb: Callable[..., Any], dump: LabDump) -> Callable[..., Any]:
    """Judges a queue of the dump after a word of it was overwritten, once for each word."""

    def run(label: str, name: str, *cases: tuple[str, str, int]) -> Any:
        return in_gdb(damaged, sock_of(dump, label)["sock"], name, [[case] for case in cases], vmcore=dump.vmcore)

    return run


def test_next_leads_to_something_else(judge: Callable[..., Any], dump: LabDump) -> None:
    """What is wrong is the pointer, not what it points to; the rest is found from the tail."""
    label, skbs = "tcp0.client", queue_of(dump, "tcp0.client", "write")["skbs"]
    targets = int(sock_of(dump, label)["sock"], 16), int(skbs[5], 16) + 64
    for found in judge(label, "write", *((skbs[4], "sk_buff.next", target) for target in targets)):
        assert found["findings"] == [["queue.link", skbs[4], "next"]]
        assert (found["nodes"], found["from_tail"], found["complete"]) == (skbs[:5], skbs[:4:-1], False)


def test_links_of_a_list(judge: Callable[..., Any], dump: LabDump) -> None:
    truth = queue_of(dump, "packet0", "receive")
    skbs = truth["skbs"]
    numbers = [int(skb, 16) for skb in skbs]
    *wild, skips, circle, to_itself = judge(
        "packet0",
        "receive",
        (skbs[40], "sk_buff.next", 0),
        (skbs[40], "sk_buff.next", WILD),
        (skbs[40], "sk_buff.next", numbers[43]),
        (skbs[-1], "sk_buff.next", numbers[0]),
        (skbs[40], "sk_buff.next", numbers[40]),
    )
    for found in wild:
        assert found["findings"] == [["queue.link", skbs[40], "next"]]
        assert (found["nodes"], found["from_tail"]) == (skbs[:41], skbs[:40:-1])
    assert skips["findings"] == [["queue.link", skbs[40], "next"]]
    assert sorted(skips["nodes"] + skips["from_tail"]) == sorted(skbs)
    assert circle["findings"] == [["queue.cycle", skbs[-1], "next"]]
    assert to_itself["findings"] == [["queue.cycle", skbs[40], "next"]]
    prev = judge("packet0", "receive", *((skbs[10], "sk_buff.prev", value) for value in (0, WILD, numbers[3])))
    for found in prev:
        assert found["findings"] == [["queue.link", skbs[10], "prev"]]
        assert (found["nodes"], found["complete"]) == (skbs, True)
    (tail,) = judge("packet0", "receive", (truth["head"], "sk_buff_head.prev", numbers[0]))
    assert tail["findings"] == [["queue.link", truth["head"], "prev"]]


def test_broken_trees(judge: Callable[..., Any], dump: LabDump) -> None:
    """One word of a tree overwritten: one finding, on the sk_buff that the word is in."""
    colour = "sk_buff.rb_parent_color"
    for label, name in (("tcp3.server", "ofo"), ("tcp3.client", "rtx")):
        skbs = queue_of(dump, label, name)["skbs"]
        first, last, sock = skbs[0], skbs[-1], sock_of(dump, label)["sock"]
        # rb_node shares its place with next and prev: parent and colour, then the right child.
        word = int(dump.skbs()[first]["next"], 16)
        sound, *parents = judge(
            label,
            name,
            (first, "sk_buff.rb_left", 0),
            (first, colour, int(last, 16) | word & 1),
            (first, colour, WILD | word & 1),
            (first, colour, word ^ 1),
        )
        assert sound["findings"] == []
        for found in parents:
            assert found["findings"] == [["queue.link", first, "rbnode.__rb_parent_color"]], label
            assert found["nodes"] == skbs
        children = judge(
            label, name, *((first, "sk_buff.rb_left", child) for child in (WILD, int(sock, 16), word & ~3))
        )
        for found in children:
            assert found["findings"] == [["queue.link", first, "rbnode.rb_left"]], label
            assert (found["nodes"], found["complete"]) == (skbs, False)


def test_a_broken_backlog(judge: Callable[..., Any], dump: LabDump) -> None:
    label, truth = "tcp4.server", queue_of(dump, "tcp4.server", "backlog")
    sock, skbs = sock_of(dump, label)["sock"], truth["skbs"]
    found = judge(
        label,
        "backlog",
        (skbs[-1], "sk_buff.next", int(skbs[0], 16)),
        (skbs[2], "sk_buff.next", WILD),
        (sock, "sock.backlog_tail", int(skbs[0], 16)),
        (sock, "sock.backlog_len", truth["qlen"] + 100000),
    )
    assert [case["findings"] for case in found] == [
        [["queue.cycle", skbs[-1], "next"]],
        [["queue.link", skbs[2], "next"]],
        [["queue.link", truth["head"], "tail"]],
        [["queue.qlen", truth["head"], "len"]],
    ]


def test_a_broken_accept_queue(judge: Callable[..., Any], dump: LabDump) -> None:
    sock = sock_of(dump, "listen0")["sock"]
    count, head = judge(
        "listen0",
        "accept",
        (sock, "sock.sk_ack_backlog", 7),
        (sock, "inet_connection_sock.accept_head", WILD),
    )
    assert count["findings"] == [["queue.qlen", sock, "sk_ack_backlog"]]
    assert [finding[0] for finding in head["findings"]] == ["queue.link"]
