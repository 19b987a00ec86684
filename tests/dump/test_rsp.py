"""The remote protocol, by transcript: what GDB sends and what it must get, without sockets."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree

import pytest

from gdb_kdump.arch.x86_64.registers import REGISTERS
from gdb_kdump.dump.rsp import PACKET_SIZE, GdbThread, Stub, ThreadTable, escape_binary, packet

BASE = 0xFFFF888000000000
MEMORY = bytes(range(256)) * 16


class Target:
    """4 KiB at BASE, and two threads, of which the second is selected."""

    registers = REGISTERS

    def __init__(self, names: tuple[str, ...] = ("init", "crash")) -> None:
        threads = [GdbThread(7 + index, name, index, {"rip": 0x1000 + index}) for index, name in enumerate(names)]
        self.threads = ThreadTable(threads, threads[-1].id)

    def read_memory(self, addr: int, size: int) -> bytes:
        return MEMORY[addr - BASE : addr - BASE + size] if addr >= BASE else b""


@pytest.fixture
def stub() -> Stub:
    stub = Stub(Target())
    assert stub.feed(b"+$QStartNoAckMode#b0") == b"+$OK#9a"
    return stub


def ask(stub: Stub, body: bytes) -> bytes:
    """The body of the reply to `body`, its framing checked."""
    reply = stub.feed(packet(body))
    assert reply[:1] == b"$" and reply[-3:-2] == b"#"
    assert int(reply[-2:], 16) == sum(reply[1:-3]) % 256
    return reply[1:-3]


def transfer(stub: Stub, what: bytes, size: int) -> bytes:
    """A whole object, fetched in pieces of `size`, as GDB does."""
    whole = b""
    while True:
        reply = ask(stub, b"qXfer:%s:%x,%x" % (what, len(whole), size))
        assert len(reply) <= size + 1, "GDB drops the connection at a reply longer than what it asked for"
        whole += reply[1:]
        if reply[:1] == b"l":
            return whole
        assert reply[:1] == b"m" and len(reply) > 1


def test_the_framing_of_the_manual() -> None:
    assert packet(b"OK") == b"$OK#9a"
    assert escape_binary(b"a#$}*z") == b"a}\x03}\x04}\x5d}\x0az"


def test_a_bad_checksum_is_refused_and_a_good_one_acknowledged() -> None:
    stub = Stub(Target())
    assert stub.feed(b"$?#00") == b"-"
    assert stub.feed(b"$?#3f") == b"+" + packet(b"T05thread:8;")
    assert stub.feed(b"-") == packet(b"T05thread:8;")


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_packet_may_arrive_in_pieces(stub: Stub, cut: int) -> None:
    whole = packet(b"qC")
    assert stub.feed(whole[:cut]) == b""
    assert stub.feed(whole[cut:]) == packet(b"QC8")


def test_two_packets_may_arrive_at_once(stub: Stub) -> None:
    assert stub.feed(packet(b"qC") + b"\x03" + packet(b"?")) == packet(b"QC8") + packet(b"T05thread:8;")


def test_the_features_it_offers(stub: Stub) -> None:
    features = ask(stub, b"qSupported:multiprocess+;swbreak+").split(b";")
    assert b"PacketSize=%x" % PACKET_SIZE in features
    assert {b"qXfer:features:read+", b"qXfer:threads:read+", b"QStartNoAckMode+"} <= set(features)


def test_memory_is_read_up_to_the_hole(stub: Stub) -> None:
    assert ask(stub, b"m%x,4" % BASE) == b"00010203"
    assert ask(stub, b"m%x,8" % (BASE + len(MEMORY) - 2)) == b"feff"
    assert ask(stub, b"m%x,8" % (BASE + len(MEMORY))) == b"E14"
    assert ask(stub, b"m0,1") == b"E14"
    for nonsense in (b"m", b"m,", b"m-1,4", b"m0x1,1", b"m 1,1", b"m1_0,1", b"mg,1"):
        assert ask(stub, nonsense) == b"E01"


def test_memory_is_read_in_binary_for_newer_gdbs(stub: Stub) -> None:
    assert ask(stub, b"x%x,3" % (BASE + 0x22)) == b'b"}\x03}\x04'
    assert ask(stub, b"x0,1") == b"E14"


def test_no_reply_is_larger_than_promised(stub: Stub) -> None:
    assert len(stub.feed(packet(b"m%x,fffffff" % BASE))) <= PACKET_SIZE


def test_registers_that_are_not_known_are_unavailable(stub: Stub) -> None:
    registers = ask(stub, b"g")
    assert registers.startswith(b"xx" * 8)
    rip = 16 * 16  # after sixteen registers of eight bytes
    assert registers[rip : rip + 16] == b"0110000000000000"
    assert ask(stub, b"p10") == b"0110000000000000"
    assert ask(stub, b"p0") == b"xx" * 8
    assert ask(stub, b"pffff") == b"E01"


def test_a_thread_is_selected_and_looked_after(stub: Stub) -> None:
    assert ask(stub, b"Hg7") == b"OK"
    assert ask(stub, b"qC") == b"QC7"
    assert ask(stub, b"p10") == b"0010000000000000"
    assert ask(stub, b"Hg0") == b"OK"
    assert ask(stub, b"qC") == b"QC8"
    assert ask(stub, b"Hg9") == b"E01"
    assert ask(stub, b"T7") == b"OK"
    assert ask(stub, b"T9") == b"E01"


def test_the_threads_of_older_gdbs(stub: Stub) -> None:
    assert ask(stub, b"qfThreadInfo") == b"m7,8"
    assert ask(stub, b"qsThreadInfo") == b"l"
    assert bytes.fromhex(ask(stub, b"qThreadExtraInfo,7").decode()) == b"init"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 0x1FFF])
def test_objects_come_in_pieces_of_any_size(stub: Stub, size: int) -> None:
    if size > 1:  # an escaped character takes two
        assert transfer(stub, b"features:read:target.xml", size) == escape_binary(REGISTERS.target_xml())
    threads = ElementTree.fromstring(transfer(stub, b"threads:read:", max(size, 2)))
    assert [thread.get("id") for thread in threads] == ["7", "8"]


@pytest.mark.parametrize(
    "name, shown",
    [
        ("a&b<c>d\"e'f", "a&b<c>d\"e'f"),
        ("\x1b[31mred\x9b", "\\x1b[31mred\\x9b"),
        ("nul\0nl\n", "nul\\x00nl\\n"),
        ("bad\udcff", "bad\\udcff"),
        ("\u202eevil", "\\u202eevil"),
        ("\ufffe\uffff", "\\ufffe\\uffff"),
        ("", ""),
        ("größe 日本 😀", "größe 日本 😀"),
    ],
)
def test_no_name_breaks_the_thread_list(name: str, shown: str) -> None:
    stub = Stub(Target((name,)))
    stub.feed(packet(b"QStartNoAckMode"))
    (thread,) = ElementTree.fromstring(transfer(stub, b"threads:read:", 0x1000))
    assert thread.get("name") == shown


@pytest.mark.parametrize(
    "body",
    [b"M0,1:00", b"X0,1:\x01", b"G00", b"P0=00", b"c", b"C05", b"s", b"S05", b"z0,0,1", b"Z0,0,1", b"vRun;61",
     b"vAttach;1", b"vFlashErase:0,1"],
)  # fmt: skip
def test_nothing_is_written_and_nothing_runs(stub: Stub, body: bytes) -> None:
    assert ask(stub, body) == b"E01"
    assert not stub.closed


@pytest.mark.parametrize(
    "body", [b"vMustReplyEmpty", b"vCont?", b"qTStatus", b"qOffsets", b"R00", b"!", b"vFile:open:"]
)
def test_what_it_does_not_know_gets_an_empty_reply(stub: Stub, body: bytes) -> None:
    assert ask(stub, body) == b""


def test_the_ways_to_leave(stub: Stub) -> None:
    assert ask(stub, b"qAttached") == b"1", "or GDB would kill the target on quitting"
    for body, reply in ((b"D", packet(b"OK")), (b"vKill;1", packet(b"OK")), (b"k", b"")):
        leaving = Stub(Target())
        leaving.feed(packet(b"QStartNoAckMode"))
        assert leaving.feed(packet(body)) == reply
        assert leaving.closed


def test_garbage_neither_raises_nor_grows_without_bound(stub: Stub) -> None:
    rng = random.Random(1)
    for _ in range(2000):
        stub = Stub(Target())
        stub.feed(packet(b"QStartNoAckMode"))
        verb = rng.choice(
            [b"m", b"x", b"p", b"H", b"Hg", b"T", b"qXfer:threads:read:", b"qXfer:features:read:", b"q", b"g"]
        )
        stub.feed(packet(verb + rng.randbytes(rng.randrange(12)).replace(b"#", b"")))
    endless = Stub(Target())
    for _ in range(100):
        endless.feed(b"$" + b"a" * 0x10000)
    assert endless.closed


def test_the_first_list_behind_a_stop_has_the_threads_up_to_the_selected_one() -> None:
    target = Target()
    for position, first in ((1, 2), (40, 100)):  # few, or too many to be worth it
        target.threads = ThreadTable([GdbThread(1 + n, f"t{n}", None, {}) for n in range(100)], 1 + position)
        stub = Stub(target)
        stub.feed(packet(b"QStartNoAckMode"))
        for count in (100, 0, first, 100, 100):
            if not count:
                ask(stub, b"?")
                continue
            threads = ElementTree.fromstring(transfer(stub, b"threads:read:", 50))
            assert [thread.get("name") for thread in threads] == [f"t{n}" for n in range(count)]


def test_fifty_thousand_threads() -> None:
    target = Target()
    target.threads = ThreadTable([GdbThread(number, f"t{number}", None, {}) for number in range(1, 50_001)], 4242)
    stub = Stub(target)
    stub.feed(packet(b"QStartNoAckMode"))
    assert ask(stub, b"?") == b"T05thread:1092;"
    assert len(ElementTree.fromstring(transfer(stub, b"threads:read:", 0x1000))) == 50_000
