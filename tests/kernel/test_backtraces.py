"""What a trace must not lose: the frames of GDB's own bt are those of kbt, and kbt's places those of the kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, dump_names

# A timer of an idle task, an exception in an interrupt, a call of what is no code, a free pointer that leads nowhere.
CRASHES = ("rtx-unlink", "softirq-bug", "gone-callback", "stale-write", "list-del")
OF_GDB = re.compile(r"#(\d+) +(?:0x[0-9a-f]+ in )?([\w.]+|\?\?) \(.*?\)(?: at \S*?([\w.-]+):(\d+))?$")
DATA = ("init_stack", "jiffies", "linux_banner")  # what lies in the image, and is none
CODE = ("schedule", "start_kernel")  # the second one in a section that was freed
OF_KERNEL = re.compile(r"(?:RIP: 0010:)?\s*([\w.]+\+0x[0-9a-f]+)/0x[0-9a-f]+(?: \[\w+\])?")


@pytest.fixture(params=[name for name in dump_names(*CRASHES) if "rt-" not in name])
def crash(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(request.param)


def frames_of_gdb(output: str) -> list[tuple[str, str | None, str | None]]:
    """Function, file and line of each frame in what bt prints."""
    found = [OF_GDB.search(line) for line in output.splitlines() if re.match(r"#\d+ ", line)]
    assert all(found), output
    return [(match[2], match[3], match[4]) for match in found if match is not None]


def as_gdb_has_it(frame: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """The same of a frame of kbt."""
    file, line = frame["file"], frame["line"]
    place = (file.rpartition("/")[2], str(line)) if file and line else (None, None)
    return frame["function"] or "??", *place


def without_labels(frame: tuple[str, str | None, str | None]) -> tuple[str, str | None, str | None]:
    """The same without a module and an offset, and without the label in assembly, of which GDB has fewer."""
    name, file, line = frame
    plain = re.sub(r"\[[\w-]+\]$|\+0x[0-9a-f]+( \[\w+\])?$", "", name)
    return ("asm" if file and file.endswith(".S") else plain), file, line


def test_gdbs_backtrace_has_the_frames_and_lines_of_kbt(gdb_run: Gdb, crash: LabDump) -> None:
    run = gdb_run("kbt --json", "echo the frames:\\n", "bt", vmcore=crash.vmcore).succeeded()
    (task,) = run.json()["tasks"]
    own = [as_gdb_has_it(frame) for frame in task["frames"]]
    text = run.stdout.partition("the frames:")[2]
    shown, own = [*map(without_labels, frames_of_gdb(text))], [*map(without_labels, own)]
    # GDB knows of functions that have jumped to the next one, too.
    jumped = [frame for frame in shown if frame not in own]
    shown = [frame for frame in shown if frame in own]
    assert len(jumped) <= 2 and shown == own[-len(shown) :], jumped
    # Above what GDB begins with there is nothing but what the dying kernel still did.
    above = task["frames"][: len(own) - len(shown)]
    assert not above or above[0]["function"] == "machine_kexec"
    assert task["ended"] in ("user", "idle", "kthread"), task["ended"]
    assert "Python Exception" not in run.output and "GDB's backtrace ends here" not in run.output


def test_places_are_those_that_the_kernel_printed(gdb_run: Gdb, crash: LabDump) -> None:
    """A part of a function (.cold) has its own symbol, which offsets count from."""
    lines = crash.truth["call_trace"]
    # From the fault on: the dying kernel went on from where it printed the trace.
    start = max(number for number, line in enumerate(lines) if line.strip().startswith("RIP: 0010:"))
    found = (OF_KERNEL.fullmatch(line.strip()) for line in lines[start:])
    wanted = [re.sub(r"\.(part|constprop|isra)\.\d+", "", match[1]) for match in found if match]
    output = gdb_run("kbt -s", vmcore=crash.vmcore).succeeded().stdout
    places = re.findall(r"^#\d+ +0x[0-9a-f]+ 0x[0-9a-f]+ ([\w.]+\+0x[0-9a-f]+)", output, re.MULTILINE)
    assert len(wanted) >= 3 or "gone-callback" in crash.name  # of which the kernel itself only guessed
    assert [place for place in wanted if place not in places] == []


@pytest.fixture(params=[name for name in dump_names("gone-callback") if "rt-" not in name])
def gone(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(request.param)


def test_a_call_of_no_code_has_its_exception_and_its_caller(gdb_run: Gdb, gone: LabDump) -> None:
    run = gdb_run("kbt --json", "ktriage --json", vmcore=gone.vmcore).succeeded()
    trace, triage = run.documents
    frames = trace["tasks"][0]["frames"]
    at = next(number for number, frame in enumerate(frames) if frame["kind"] == "exception")
    assert frames[0]["function"] == "machine_kexec" and trace["tasks"][0]["note"] == ""
    assert frames[at + 1]["function"] is None and frames[at + 1]["pc"] == frames[at]["registers"]["rip"]
    assert frames[at + 2]["function"] == "__udp_enqueue_schedule_skb" == triage["frame"]["function"]
    assert f"{frames[at + 1]['pc'][2:]}" in " ".join(gone.truth["call_trace"])


@pytest.mark.parametrize("name", dump_names("stack-overflow"))
def test_recursion_is_folded(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str) -> None:
    run = gdb_run("kbt --json", "kbt", "echo whole:\\n", "kbt -f", vmcore=lab_dump(name).vmcore).succeeded()
    frames = run.json()["tasks"][0]["frames"]
    short, _, whole = run.stdout.partition("whole:")
    levels = [int(level) for level in re.findall(r"^#(\d+) ", short, re.MULTILINE)]
    words = re.search(r"\.\.\. the same (?:(\d+) )?frames? (\d+) times more, up to #(\d+)", short)
    assert words is not None, short
    hidden = int(words[1] or 1) * int(words[2])
    assert len(levels) + hidden == len(frames) > 90
    deepest = {frame["function"] for frame in frames[int(words[3]) - hidden + 1 : int(words[3]) + 1]}
    assert deepest == {"lab_overflow_deeper"}
    assert len(re.findall(r"^#\d+ ", whole, re.MULTILINE)) == len(frames)


@pytest.mark.parametrize("name", dump_names("healthy"))
def test_data_is_no_code(in_gdb: Callable[..., Any], lab_dump: Callable[[str], LabDump], name: str) -> None:
    def body(names_of_data: list[str], names_of_code: list[str]) -> list[list[bool]]:
        import gdb

        from gdb_kdump.kernel.module.modules import Modules
        from gdb_kdump.kernel.module.source import Source
        from gdb_kdump.session import current
        from gdb_kdump.walks import Gaps

        source, modules = current().once(Source), current().once(Modules)
        of = {name: int(gdb.parse_and_eval(f"(unsigned long)&{name}")) for name in names_of_data + names_of_code}
        lab = next(module for module in modules.all(Gaps()) if module.name == "kdump_lab")
        symbols = dict(modules.symbols_of(lab))
        return [
            [source.is_text(of[name]) for name in names_of_data],
            [source.is_text(of[name]) for name in names_of_code],
            [source.is_text(symbols["lab_ioctl"]), source.is_text(lab.addr)],
        ]

    data, code, of_module = in_gdb(body, DATA, CODE, vmcore=lab_dump(name).vmcore)
    assert not any(data) and all(code)
    assert of_module == [True, False]


def test_info_symbol_knows_all_modules(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    asked = ("info symbol lab_ioctl", "kmod", "kmod kdump_lab", "info symbol lab_ioctl")
    run = gdb_run(*asked, vmcore=lab_dump("6.1-healthy").vmcore).succeeded()
    assert len(re.findall(r"^lab_ioctl in section .text", run.stdout, re.MULTILINE)) == 2, run.stdout
    assert "not needed yet" in run.stdout


@pytest.mark.parametrize("name", dump_names("null-module"))
def test_the_fault_names_its_module(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str) -> None:
    output = gdb_run("ktriage", vmcore=lab_dump(name).vmcore).succeeded().stdout
    assert re.search(r"^ *FAULT: lab_\w+\+0x[0-9a-f]+ \[kdump_lab\]", output, re.MULTILINE), output
