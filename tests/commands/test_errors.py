"""What goes wrong outside our code: one sentence that says what to do, GDB alive, no traceback, no process left."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, Run
from pytest_gdb_fixtures.nobody import as_nobody
from pytest_gdb_fixtures.process import INIT

COMMANDS = ("kinfo", "kps", "kbt", "kstruct sk_buff 0xffff888003a41200", "shinfo 0xffff888003a41200",
            "skbwalk 0xffff888003a41200", "skbcheck 0xffff888003a41200", "print $task(1)")  # fmt: skip


@pytest.fixture
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


@pytest.fixture
def other(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.12-reference")


def refused(run: Run, *words: str) -> str:
    """The one sentence with which a script ended; every one of `words` must be in it."""
    assert run.status == 1, run.output
    assert "Traceback" not in run.output, run.output
    # GDB heads an error in a script with the place: FILE:LINE: Error in sourced command file:
    lines = [line for line in run.errors if "Error in sourced command file" not in line]
    assert len(lines) == 1, run.output
    for word in words:
        assert re.search(word, lines[0]), f"{word!r} is not in: {lines[0]}"
    return lines[0]


def refuse(gdb: Gdb, *words: str, vmcore: Path, vmlinux: Path | None = None) -> str:
    """Open a dump that cannot be opened, as a script, and see that GDB goes on when it is not one."""
    sentence = refused(gdb(vmcore=vmcore, vmlinux=vmlinux, script=True), "^target kdump: ", *words)
    alive = gdb("kinfo", "print 6 * 7", vmcore=vmcore, vmlinux=vmlinux)
    assert "= 42" in alive.stdout and "no dump is open" in alive.stderr, alive.output
    return sentence


def test_a_missing_file(gdb_run: Gdb, tmp_path: Path) -> None:
    refuse(gdb_run, "no-such-vmcore", "[Nn]o such file", vmcore=tmp_path / "no-such-vmcore")


def test_a_directory(gdb_run: Gdb, tmp_path: Path) -> None:
    refuse(gdb_run, "directory|not a dump|no dump", vmcore=tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 65536, b"Just a text.\n" * 1000, b"KDUMP   ", b"\x7fELF" + b"\0" * 60]
)
def test_a_file_that_is_no_dump(gdb_run: Gdb, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    refuse(gdb_run, str(path), vmcore=path)


def test_a_binary_that_is_no_dump(gdb_run: Gdb) -> None:
    refuse(gdb_run, "/bin/true|/usr/bin/true", vmcore=Path("/bin/true"))


def test_a_dump_cut_in_half_says_what_is_missing(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    """Half a dump is opened as far as it goes, and nothing that is missing is read as zeros."""
    half = tmp_path / "half"
    data = dump.vmcore.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    run = gdb_run("kinfo --json", "print 6 * 7", vmcore=half)
    assert "Traceback" not in run.output, run.output
    assert "= 42" in run.stdout
    assert re.search(r"truncated|cut|missing", run.output, re.IGNORECASE), run.output


def test_a_dump_that_is_written_to_while_it_is_open(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    path = tmp_path / "vmcore"
    shutil.copy(dump.vmcore, path)
    again = f"shell dd if={dump.vmcore} of={path} conv=notrunc bs=1M count=1 status=none"
    run = gdb_run("kps 1", "print 40 + 2", again, "kbt -a --json", "kslab -l", vmcore=path).succeeded()
    (warning,) = run.errors
    assert f"warning: {path} has been written to since it was opened" in warning and "target kdump" in warning
    assert run.json()


@pytest.mark.parametrize("share", [0.02, 0.2, 0.9, 0.999])
def test_a_truncated_dump_gives_bytes_or_a_reason(gdb_run: Gdb, tmp_path: Path, dump: LabDump, share: float) -> None:
    cut = tmp_path / "cut"
    data = dump.vmcore.read_bytes()
    cut.write_bytes(data[: int(len(data) * share)])
    skbs = dump.skbs()
    run = gdb_run(*(f"kstruct sk_buff.truesize,users {skb} --json" for skb in skbs), vmcore=cut)
    assert "Traceback" not in run.output, run.output
    assert run.status in (0, 1)
    for document in run.documents:
        assert document["value"]["truesize"] in (skbs[document["address"]]["truesize"], {"unreadable": "TRUNCATED"})


def test_the_vmlinux_of_another_kernel(gdb_run: Gdb, dump: LabDump, other: LabDump) -> None:
    refuse(gdb_run, "another kernel", "build-id", vmcore=dump.vmcore, vmlinux=other.vmlinux)


def test_a_vmlinux_that_is_no_elf_file(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    (tmp_path / "vmlinux").write_text("not an ELF file")
    refuse(gdb_run, "vmlinux", "ELF", vmcore=dump.vmcore, vmlinux=tmp_path / "vmlinux")


def test_a_missing_vmlinux_is_named(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    refuse(gdb_run, "no-such-vmlinux", vmcore=dump.vmcore, vmlinux=tmp_path / "no-such-vmlinux")


def test_no_vmlinux_for_the_dump(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    """The dump of a kernel whose debug package is not installed: another build-id in VMCOREINFO."""
    path = foreign_kernel(dump, tmp_path)
    sentence = refuse(gdb_run, "no vmlinux", "-dbg", r"target kdump \S+ VMLINUX", "KDUMP_VMLINUX_PATH", vmcore=path)
    assert dump.truth["kernel"] in sentence


def foreign_kernel(dump: LabDump, folder: Path) -> Path:
    data = bytearray(dump.vmcore.read_bytes())
    found = list(re.finditer(rb"BUILD-ID=([0-9a-f]{40})", data))
    assert found, "VMCOREINFO is not stored plainly"
    for match in found:
        data[match.start(1) : match.start(1) + 8] = b"00000000"
    path = folder / "foreign"
    path.write_bytes(data)
    return path


def test_no_permission(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    private = tmp_path / "private"
    shutil.copy(dump.vmcore, private)
    private.chmod(0)
    run = gdb_run(vmcore=private, script=True, **as_nobody(tmp_path))
    refused(run, "private", "no permission", "root")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_before_a_dump_is_open(gdb_run: Gdb, command: str) -> None:
    refused(gdb_run(command, script=True), "no dump is open", r"target kdump VMCORE")


@pytest.mark.parametrize("words", ["", "one two three", "'unclosed"])
def test_target_kdump_says_how_it_is_used(gdb_run: Gdb, words: str) -> None:
    refused(gdb_run(f"target kdump {words}", script=True), "target kdump")


MISUSE = {
    "kbt 99999": "no task has PID 99999",
    "kbt nonsense": "nonsense",
    "kbt -c 99": "CPU 99",
    "kbt -c x": "CPU numbers",
    "kbt 0xffff888000000000": "no task",
    "kstruct": "name a type",
    "kstruct no_such_struct": "no_such_struct",
    "kstruct sk_buff.no_such_member": "no_such_member",
    "kstruct sk_buff 0": "0x0{16}",
    "kstruct sk_buff 0x4002030400585a08": "0x4002030400585a08",
    "kstruct sk_buff -c 0 0xffff888003a41200": "-c",
    "kstruct sk_buff -c x 0xffff888003a41200": "'x'",
    "kstruct sk_buff (": ".",
    "shinfo": "name an sk_buff",
    "shinfo 0": "0x0{8}",
    "shinfo no_such_symbol": "no_such_symbol",
    "skbwalk": "name a socket",
    "skbwalk 0": "0x0{8}",
    "skbwalk --queue nonsense 0xffff888003a41200": "nonsense",
    "skbcheck": "name sk_buffs",
    "kinfo nonsense": "layout",
    "kps one two": "PATTERN",
    "print $task(99999)": "99999",
    'print $per_cpu("runqueues", 99)': "CPU 99",
    'print $per_cpu("no_such_symbol", 0)': "no_such_symbol",
    "print $per_cpu(init_net, 0)": "no per-CPU variable",
    "print $skb_shinfo(0)": "0x0{8}",
    'print $container_of(0, "sk_buff", "nonsense")': "nonsense",
    'print $container_of(0, "nonsense", "len")': "nonsense",
}


def test_misuse_is_one_sentence_each(gdb_run: Gdb, dump: LabDump) -> None:
    commands = [line for command in MISUSE for line in (command, f"python gdb.write('@@ {number_of(command)}\\n', 2)")]
    run = gdb_run(*commands, "print 6 * 7", vmcore=dump.vmcore)
    assert "Traceback" not in run.output, run.output
    assert "= 42" in run.stdout
    opening, *rest = re.split(r"@@ \d+\n", run.stderr)
    said = [opening.splitlines()[-1] + "\n", *rest]
    for command, text in zip(MISUSE, said, strict=False):
        assert len(text.splitlines()) == 1, f"{command}: {text!r}"
        assert re.search(MISUSE[command], text), f"{command}: {text!r}"
        if not command.startswith("print"):
            assert text.startswith(f"{command.split()[0]}: "), text


def number_of(command: str) -> int:
    return list(MISUSE).index(command)


def test_findings_are_no_failure(gdb_run: Gdb, dump: LabDump) -> None:
    """A script goes on after a verdict of corrupt: the command has done what it was asked to."""
    run = gdb_run(f"skbcheck {dump.truth['fault']['skb']}", "print 6 * 7", vmcore=dump.vmcore, script=True).succeeded()
    assert "= 42" in run.stdout


def test_a_second_dump_replaces_the_first_whole(gdb_run: Gdb, dump: LabDump, other: LabDump) -> None:
    look = ("kinfo --json", "kstruct task_struct --json", "kbt --json", "print sizeof(struct task_struct)")
    alone = gdb_run(*look, vmcore=other.vmcore).succeeded()
    run = gdb_run(*look, f"target kdump {other.vmcore}", *look, vmcore=dump.vmcore).succeeded()
    assert run.documents[3:] == alone.documents
    assert run.documents[0]["release"] == dump.truth["kernel"]
    assert run.documents[1]["size"] != run.documents[4]["size"]
    sizes = [int(size) for size in re.findall(r"^\$\d+ = (\d+)$", run.stdout, re.MULTILINE)]
    assert sizes == [run.documents[1]["size"], run.documents[4]["size"]]


def test_a_refused_second_dump_leaves_no_half_session(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    run = gdb_run(f"target kdump {tmp_path / 'nothing'}", "kinfo --json", "print 6 * 7", vmcore=dump.vmcore)
    assert "Traceback" not in run.output and "= 42" in run.stdout, run.output
    # Either the first dump is still whole, or none is open and the command says so.
    assert "no dump is open" in run.stderr or run.json()["release"] == dump.truth["kernel"]


@pytest.mark.parametrize("ending", ["kill", "disconnect", "detach"])
def test_ending_the_target_ends_the_server(gdb_run: Gdb, dump: LabDump, ending: str) -> None:
    run = gdb_run(
        ending,
        "python import os, time; children = lambda: open(f'/proc/self/task/{os.getpid()}/children').read().split()",
        "python waited = [time.sleep(0.1) for _ in range(50) if children()]; print('@', children())",
        "kinfo",
        f"target kdump {dump.vmcore}",
        "kinfo --json",
        vmcore=dump.vmcore,
    )
    assert "Traceback" not in run.output, run.output
    assert "@ []\n" in run.stdout, run.output
    assert "no dump is open" in run.stderr, run.output
    assert run.json()["release"] == dump.truth["kernel"]


KILL_SERVER = (
    "python import os, signal",
    "python children = open(f'/proc/self/task/{os.getpid()}/children').read().split(); print('@', len(children))",
    "python os.kill(int(children[0]), signal.SIGKILL)",
    "python dead = os.waitid(os.P_PID, int(children[0]), os.WEXITED | os.WNOWAIT)",
)


@pytest.mark.parametrize("command", ["kbt", "kinfo", "kstruct list_head 0xffff888003a41200"])
def test_a_killed_server_is_told(gdb_run: Gdb, dump: LabDump, command: str) -> None:
    run = gdb_run(*KILL_SERVER, command, "print 6 * 7", vmcore=dump.vmcore)
    assert "@ 1\n" in run.stdout, run.output
    assert "= 42" in run.stdout
    assert "Traceback" not in run.output, run.output
    assert re.search(r"^\w+: the dump server died \(SIGKILL\).*`target kdump`", run.stderr, re.MULTILINE), run.output


def test_after_a_killed_server_gdb_goes_on_and_a_dump_opens_again(gdb_run: Gdb, dump: LabDump) -> None:
    opened = f"target kdump {dump.vmcore}"
    run = gdb_run(*KILL_SERVER, "x/gx $sp", "kbt", "info threads", opened, "kinfo --json", vmcore=dump.vmcore)
    assert "Traceback" not in run.output, run.output
    assert run.json()["release"] == dump.truth["kernel"]


def test_gdb_writes_nothing_into_the_dump(gdb_run: Gdb, dump: LabDump) -> None:
    before = dump.vmcore.stat()
    skb = dump.truth["fault"]["skb"]
    run = gdb_run(
        f"set var ((struct sk_buff *){skb})->len = 1", "continue", "stepi", "kinfo --json", vmcore=dump.vmcore
    )
    assert "Traceback" not in run.output, run.output
    assert dump.vmcore.stat().st_mtime_ns == before.st_mtime_ns


def test_sourced_twice(gdb_run: Gdb, dump: LabDump) -> None:
    once = gdb_run("kbt", vmcore=dump.vmcore).succeeded()
    twice = gdb_run(f"source {INIT}", "kbt", vmcore=dump.vmcore).succeeded()
    assert twice.stdout == once.stdout
    assert twice.stderr == once.stderr


def test_sourced_by_a_relative_path_from_another_folder(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    (tmp_path / "plugin").symlink_to(INIT.parent)
    opened = ("source plugin/init.py", f"target kdump {os.path.relpath(dump.vmcore, tmp_path)}", "kinfo --json")
    assert gdb_run(*opened, plugin=False, cwd=tmp_path).succeeded().json()["release"] == dump.truth["kernel"]


def test_sourced_from_gdbinit(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    (tmp_path / ".gdbinit").write_text(f"source {INIT}\n")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": cache, "XDG_CONFIG_HOME": None}
    run = gdb_run(f"target kdump {dump.vmcore}", "kinfo --json", plugin=False, arguments=(), env=env).succeeded()
    assert run.json()["release"] == dump.truth["kernel"]


def test_a_path_with_spaces_and_a_tilde(gdb_run: Gdb, tmp_path: Path, dump: LabDump) -> None:
    (tmp_path / "two words").symlink_to(dump.vmcore)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": cache}
    for name in (f"'{tmp_path}/two words'", r"~/two\ words"):
        run = gdb_run(f"target kdump {name}", "kinfo --json", env=env).succeeded()
        assert run.json()["vmcore"] == str(tmp_path / "two words")


def test_a_target_that_gdb_has_already_is_not_thrown_away(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run(
        "file /bin/true",
        "starti",
        f"target kdump {dump.vmcore}",
        "info program",
        "kill",
        f"target kdump {dump.vmcore}",
        "kinfo --json",
    )
    assert "Traceback" not in run.output, run.output
    assert re.search(r"^target kdump: GDB is debugging process \d+; `kill`", run.stderr, re.MULTILINE), run.output
    assert run.json()["release"] == dump.truth["kernel"]
