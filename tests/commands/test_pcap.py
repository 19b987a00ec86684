"""skbwalk --pcap: what Wireshark's own reader makes of the files, against the truth."""

from __future__ import annotations

import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

from gdb_kdump.formats import pcapng


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def tshark(file: Path, *fields: str) -> list[list[str]]:
    wanted = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=|", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("|") for line in done.stdout.splitlines()]


def test_tshark_reads_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "made.pcapng"
    ip = bytes.fromhex("450000200000000040110000 7f000001 7f000001 04d2 162e 000c 0000") + b"quad"
    file.write_bytes(
        pcapng.section_header("test", "two packets")
        + pcapng.interface(pcapng.LINKTYPE_RAW, "ip")
        + pcapng.interface(pcapng.LINKTYPE_USER0, "payload")
        + pcapng.packet(0, 1_700_000_000_123_456_789, ip, len(ip), "a comment")
        + pcapng.packet(1, 0, b"odd", 1000, "")
    )
    rows = tshark(file, "frame.time_epoch", "frame.interface_name", "frame.len", "frame.cap_len", "udp.dstport")
    assert rows == [["1700000000.123456789", "ip", "32", "32", "5678"], ["0.000000000", "payload", "1000", "3", ""]]
    assert tshark(file, "frame.comment")[0] == ["a comment"]


def test_blocks_say_their_length_twice_and_are_aligned() -> None:
    for size in range(8):
        block = pcapng.packet(0, 0, b"x" * size, size, "c" * size)
        first, last = struct.unpack("<I", block[4:8]), struct.unpack("<I", block[-4:])
        assert first == last == (len(block),) and len(block) % 4 == 0


def test_the_packets_of_the_sockets(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    labels = {
        "packet0": "ethernet", "udp0.rx": "ethernet", "udp1.rx": "ethernet", "tcp0.server": "ethernet",
        "tcp0.client": "payload", "unix0.rx": "payload", "cork0.tx": "payload", "tcp4.server": "ethernet",
    }  # fmt: skip
    socks = {sock["label"]: sock for sock in dump.truth["socks"]}
    run = gdb_run(
        *(f"skbwalk {socks[label]['sock']} --pcap {tmp_path}/{label} --json" for label in labels), vmcore=dump.vmcore
    ).succeeded()
    for (label, kind), walk in zip(labels.items(), run.documents, strict=True):
        expected = [skb for queue in walk["queues"] for skb in queue["skbs"]]
        file = tmp_path / label
        assert walk["pcap"] == {"file": str(file), "packets": len(expected), "bad": 0, "incomplete": 0}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        rows = tshark(file, "frame.interface_name", "frame.len", "frame.cap_len", "udp.dstport", "frame.comment")
        assert len(rows) == len(expected)
        for skb, (name, length, captured, port, comment) in zip(expected, rows, strict=True):
            assert (name, length, skb["skb"] in comment) == (kind, captured, True)
            # Headers that the stack has stripped are still there, in front of what the socket has.
            stripped = int(length) - skb["len"]
            assert stripped == 0 if kind == "payload" else 0 <= stripped <= 14 + 60 + 60
            if label.startswith("udp"):
                assert port == str(socks[label]["sport"])


def test_datagrams_in_a_frag_list_have_their_whole_length(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    """What tshark takes for the datagram's length, from its UDP header, is what the kernel counted."""
    sock = next(sock for sock in dump.truth["socks"] if sock["label"] == "udp0.rx")
    file = tmp_path / "out.pcapng"
    gdb_run(f"skbwalk {sock['sock']} --pcap {file} --queue receive", vmcore=dump.vmcore).succeeded()
    rows = tshark(file, "udp.length")
    datagrams = [skb["len"] for skb in dump.truth["skbs"] if skb["place"] == sock["queues"][1]["head"]]
    assert [int(length) - 8 for (length,) in rows] == datagrams
    assert max(datagrams) > 60000


def test_nothing_is_overwritten(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    sock = dump.truth["socks"][0]["sock"]
    file = tmp_path / "mine.pcapng"
    file.write_text("precious")
    run = gdb_run(f"skbwalk {sock} --pcap {file}", vmcore=dump.vmcore)
    assert run.errors[-1] == f"skbwalk: {file} exists, and is not overwritten: name a new file"
    assert file.read_text() == "precious"
    run = gdb_run(f"skbwalk {sock} --pcap {tmp_path}/no/where", vmcore=dump.vmcore)
    assert run.errors[-1] == f"skbwalk: cannot write {tmp_path}/no/where: No such file or directory"


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_bad_sk_buff_is_flagged(
    in_gdb: Callable[..., Any], lab_dump: Callable[[str], LabDump], tmp_path: Path, kernel: str
) -> None:
    """The reference case's sk_buff has left its queue: it is put into one of its own here."""
    dump = lab_dump(f"{kernel}-reference")
    file = tmp_path / "bad.pcapng"
    written = in_gdb(write_one, dump.truth["fault"]["skb"], str(file), vmcore=dump.vmcore)
    assert written == [1, 1, 1]
    ((length, captured, comment),) = tshark(file, "frame.len", "frame.cap_len", "frame.comment")
    assert int(captured) <= int(length)
    assert "CORRUPT: shinfo.nr_frags: " in comment and "INCOMPLETE: nr_frags of " in comment


def write_one(skb: str, file: str) -> list[int]:
    from gdb_kdump import session
    from gdb_kdump.commands.export.pcap import write_pcap
    from gdb_kdump.records.queue import Queue

    written = write_pcap(session.current(), file, [Queue("write", 0, 1, (int(skb, 16),))])
    return [written.packets, written.bad, written.incomplete]
