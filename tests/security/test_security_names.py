"""Names in a dump that want to rule whoever reads them: shown escaped by every command, obeyed by none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, Run

from gdb_kdump.text import escape

# 16 bytes at the most: what fits into task_struct.comm, where nobody promises a NUL.
NASTY = (
    b"; shell id", b"$(touch pwned)", b"`touch pwned`", b"|shell id", b"!touch pwned", b"%s%n%x%d", b"%1000000c",
    b"\x1b[2J\x1b[31mred", b"\x1b]0;title\x07", b"\x1b]52;c;aWQ=\x07", b"\x1b]8;;a://b\x1b\\", b"\x1bP+q544e\x1b\\",
    "\u202egpj.exe".encode(), "\u2066\u2069\u200f".encode(), "\u200b\u200d\ufeff".encode(), "\u2028\u2029".encode(),
    "\u009b31m".encode(), b"\x9b31m\x90\x9d", "\u3164\u115f\ufe0f".encode(), "\U000e0041x".encode(),
    b"&<>\"'", b"]]><x/>", b"<!--", b"&#27;[31m", b"</threads>", b"\xff\xfe\xc0\x80", b"\xed\xa0\x80surr",
    b"\xf4\x90\x80\x80", b"\xef\xbf\xbe\xef\xbf\xbf", b"sixteen bytes!!!", b"a\nPID: 1", b"a\r\nb", b"a\0hidden",
    b"\t\b\b\b\x7f", b"{\"a\": 1}", b"../../etc/x", b"-x --json", b"[brackets]", b"*", b"\\x1b[31m", b"\x00",
)  # fmt: skip
LONG = b"\x1b[31m $(touch pwned) %n &<>]]> \xff \xe2\x80\xae ;"


@dataclass(frozen=True)
class Hostile:
    """A dump full of such names, and which task has which."""

    vmcore: Path
    comms: dict[str, bytes]
    module: str
    socks: list[str]


@pytest.fixture(scope="module", params=KERNELS)
def hostile(
    request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hostile]:
    """The reference dump, after every kind of name in it was overwritten."""
    dump = lab_dump(f"{request.param}-reference")
    folder = tmp_path_factory.mktemp("hostile")
    patched = PatchedDump(dump.vmcore, folder / "vmcore")
    numbers = [
        "&((struct task_struct *)0)->comm", "&((struct module *)0)->name", "&init_uts_ns.name.nodename",
        "&init_uts_ns.name.version", "&udp_prot.name", "saved_command_line", "&((struct unix_sock *)0)->addr",
        "&((struct unix_address *)0)->name",
    ]  # fmt: skip
    run = Gdb(folder)(
        *(f"print/x (unsigned long){number}" for number in numbers),
        "kps --json", "kmod --json", "ksock UNIX --json", vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    comm, name, nodename, version, proto, room, addr, sun = (
        int(n, 16) for n in re.findall(r"^\$\d+ = (0x\w+)", run.stdout, re.M)
    )
    tasks, modules, sockets = run.documents
    comms = {}
    # The panic task's name stands in the banner, init's in the middle of the list.
    for task, nasty in zip(reversed(tasks["tasks"]), NASTY * 2, strict=False):
        patched.write(int(task["task"], 16) + comm, nasty.ljust(16, b"\0"))
        comms[task["task"]] = nasty
    (module,) = modules["modules"]
    patched.write(int(module["module"], 16) + name, LONG)
    patched.write(nodename, LONG)
    patched.write(version, LONG)
    patched.write(proto, b"\x1b[31mUDP\xe2\x80\xae\0")
    socks = [sock["sock"] for sock in sockets["socks"][:2]]
    for number, (sock, path) in enumerate(zip(socks, (b"/tmp/" + LONG + b"\0", b"\0@" + LONG + b"\0\x1b[32m"))):
        place = room + 64 * number
        patched.write(place, bytes(4) + (2 + len(path)).to_bytes(4, "little"))
        patched.write(place + sun, b"\1\0" + path)
        patched.write_words(int(sock, 16) + addr, place)
    log = b"[hostile] " + LONG
    data = bytearray(patched.path.read_bytes())
    old = b"Linux version "
    assert data.count(old) >= 1
    at = data.find(old)
    while at >= 0:  # the log's copy, and the banner's, which nobody reads
        data[at : at + len(log)] = log
        at = data.find(old, at)
    patched.path.write_bytes(data)
    yield Hostile(patched.path, comms, module["module"], socks)


@pytest.fixture
def run_in(gdb_run: Gdb, hostile: Hostile, tmp_path: Path) -> Callable[..., Run]:
    """Runs commands on the hostile dump, where the locale is UTF-8, and proves that no file is made."""

    def run(*commands: str) -> Run:
        empty = tmp_path / "empty"
        empty.mkdir()
        done = gdb_run(*commands, vmcore=hostile.vmcore, cwd=empty, env={"LC_ALL": "C.UTF-8"})
        assert list(empty.iterdir()) == []
        assert "Traceback" not in done.output and "Python Exception" not in done.output, done.output
        harmless(done)
        return done

    return run


def harmless(run: Run) -> None:
    for line in run.output.split("\n"):
        plain = line.replace("\t", " ")  # GDB writes tabs between its own words
        assert plain == escape(plain), repr(line)
    assert "uid=" not in run.output


COMMANDS = (
    "kinfo", "kps", "kbt", "kbt -a -s", "kbt 1 -v -f", "klog", "klog -T", "kmod", "ksock", "kslab -l", "ktriage",
    "skbcheck --all", "kstruct new_utsname &init_uts_ns.name", "kstruct proto.name &udp_prot",
)  # fmt: skip


def test_text_is_escaped(run_in: Callable[..., Run], hostile: Hostile) -> None:
    structs = [f"kstruct task_struct.comm {task}" for task in hostile.comms]
    raw = [f"kstruct module -r {hostile.module}"]
    slabs = [f"kslab {address}" for address in (*hostile.socks, *list(hostile.comms)[:3])]
    run = run_in(*COMMANDS, *structs, *raw, *slabs, "kps ';*'", "kbt --grep '*[*'")
    assert r"\x1b[31m $(touch pwned) %n &<>]]> \xff \u202e ;" in run.stdout


def test_every_name_is_shown(run_in: Callable[..., Run], hostile: Hostile) -> None:
    run = run_in("kps")
    for task, nasty in hostile.comms.items():
        (line,) = (line for line in run.stdout.splitlines() if task in line and "TASK:" not in line)
        assert escape(nasty.split(b"\0")[0]).rstrip() in line


def test_json_is_ascii_and_whole(run_in: Callable[..., Run], hostile: Hostile) -> None:
    commands = [f"{command} --json" for command in COMMANDS if command != "klog -T"]
    run = run_in(*commands, *(f"kstruct task_struct.comm {task} --json" for task in hostile.comms))
    assert len(run.documents) == len(commands) + len(hostile.comms)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    assert all(line.isascii() and line.isprintable() for line in lines)
    tasks = {task["task"]: task["comm"] for task in run.documents[1]["tasks"]}
    for task, nasty in hostile.comms.items():
        assert tasks[task] == nasty.split(b"\0")[0].decode("utf-8", "backslashreplace")
    shown = {document["address"]: document["value"]["comm"] for document in run.documents[len(commands) :]}
    assert {task: name.split("\0")[0] for task, name in shown.items()} == {task: tasks[task] for task in shown}
    text = LONG.decode("utf-8", "backslashreplace")
    assert run.documents[0]["nodename"] == text
    assert [module["name"] for module in run.documents[6]["modules"]] == [text]
    locals_ = {sock["sock"]: sock["local"] for sock in json.loads(lines[7])["socks"]}
    assert [locals_[sock] for sock in hostile.socks] == [f"/tmp/{text}", f"@@{text}\0\x1b[32m"]


def test_the_thread_list_is_complete(run_in: Callable[..., Run], hostile: Hostile) -> None:
    run = run_in("info threads", "kps --json", "thread find id", "thread name x", "bt 2")
    tasks = run.json()["tasks"]
    threads = re.findall(r"^[* ] +\d+ +Thread (\d+)", run.stdout, re.MULTILINE)
    assert len(threads) == len(tasks) >= len(NASTY)
    for nasty in NASTY:
        name = escape(nasty.split(b"\0")[0])
        assert not name.strip() or f'"{name}"' in run.stdout, name


def test_payload_is_left_out_when_that_is_wanted(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump("6.1-reference")
    skb = dump.truth["fault"]["skb"]
    commands = ("set kdump payload off", "show kdump payload", f"skbcheck {skb}", "ktriage")
    bytes_shown = r"^0x[0-9a-f]{16}: [ \[][0-9a-f]{2}[ \]]"
    run = gdb_run(*commands, vmcore=dump.vmcore).succeeded()
    assert run.stdout.count("set kdump payload on") == 2
    assert not re.search(bytes_shown, run.stdout, re.MULTILINE)
    run = gdb_run(f"skbcheck {skb}", vmcore=dump.vmcore).succeeded()
    assert re.search(bytes_shown, run.stdout, re.MULTILINE), "the control: it is shown otherwise"
