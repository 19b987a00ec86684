"""The reference case, end to end, on every kernel: from the panic to the corrupted sk_buff."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, printed_trace

Frame = dict[str, Any]


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-reference")


def printed_functions(call_trace: list[str]) -> list[str]:
    """The functions of the kernel's own Call Trace, innermost first, without the guesses that it marks with `?`."""
    rip = next(line for line in call_trace if line.startswith("RIP: 0010:"))
    lines = [rip.split(":")[-1], *printed_trace(call_trace, call_trace.index("Call Trace:"))]
    return [found[1] for line in lines if (found := re.fullmatch(r"([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+", line.strip()))]


def plain(function: str) -> str:
    """A function's name without what the compiler and the assembler have added to it."""
    return re.sub(r"(\.(constprop|isra|part|cold)(\.\d+)*)+$|_after_hwframe$", "", function)


def test_kinfo_names_the_panic(gdb_run: Gdb, dump: LabDump) -> None:
    info = gdb_run("kinfo --json", vmcore=dump.vmcore).succeeded().json()
    truth = dump.truth
    assert info["release"] == truth["kernel"]
    assert info["kaslr_offset"] == truth["kaslr_offset"]
    assert info["vmcore"] == str(dump.vmcore)
    assert info["vmlinux"] == str(dump.vmlinux)
    assert info["cpus"] == len(truth["cpus"])
    assert info["panic"]["message"] == truth["panic"]
    assert {key: info["panic"][key] for key in ("pid", "comm", "cpu")} == truth["panic_task"]
    running = {cpu["cpu"]: cpu["task"] for cpu in truth["cpus"]}
    assert info["panic"]["task"] == running[truth["panic_task"]["cpu"]]


def test_registers_need_no_types(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    """A kernel without ptrace has no struct user_regs_struct in its debug information."""

    def registers(hidden: list[str]) -> list[Any]:
        from gdb_kdump import session
        from gdb_kdump.kernel.sched.registers import Registers

        layout = session.current().layout
        find = layout.find_struct
        layout.find_struct = lambda tag: None if tag in hidden else find(tag)  # type: ignore[method-assign]
        made = Registers(session.current())
        return [[made.origin(cpu), made.of_cpu(cpu), made._from_dump(cpu)] for cpu in (0, 1)]

    for origin, noted, of_dump in in_gdb(registers, ["user_regs_struct", "elf_prstatus"], vmcore=dump.vmcore):
        assert origin == "crash_notes"
        assert noted == of_dump and len(noted) == 27 and noted["rsp"] >> 47 == 0x1FFFF


def panic_trace(gdb: Gdb, dump: LabDump) -> tuple[dict[str, Any], list[Frame], list[Frame]]:
    """The panic task's trace: as a whole, the frames of the dying kernel, and those from the fault on."""
    (task,) = gdb("kbt --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    frames = task["frames"]
    fault = max(number for number, frame in enumerate(frames) if frame["kind"] == "exception")
    return task, frames[: fault + 1], frames[fault + 1 :]


def test_kbt_is_the_kernels_call_trace(gdb_run: Gdb, dump: LabDump) -> None:
    task, dying, frames = panic_trace(gdb_run, dump)
    expected = [plain(function) for function in printed_functions(dump.truth["call_trace"])]
    assert len(expected) >= 8
    assert [plain(frame["function"]) for frame in frames if not frame["inlined"]] == expected
    assert task["ended"] == "user"
    assert {key: task[key] for key in ("pid", "comm", "cpu")} == dump.truth["panic_task"]
    assert frames[-1]["kind"] == "syscall"
    assert {frame["kind"] for frame in (*dying[:-1], *frames[:-1])} == {"normal"}
    # Inlined frames are there, and every frame knows its line.
    assert any(frame["inlined"] for frame in frames)
    assert all(frame["file"] and frame["line"] for frame in frames)


def test_kbt_begins_where_the_dying_kernel_ended(gdb_run: Gdb, dump: LabDump) -> None:
    task, dying, _ = panic_trace(gdb_run, dump)
    assert [frame["level"] for frame in task["frames"]] == list(range(len(task["frames"])))
    functions = [frame["function"] for frame in dying if not frame["inlined"]]
    assert functions[-1] == "asm_exc_general_protection"
    wanted = ["__crash_kexec", "crash_kexec", "oops_end", "exc_general_protection"]
    assert [function for function in functions if function in wanted] == wanted


def test_kbt_has_the_registers_that_the_kernel_printed(gdb_run: Gdb, dump: LabDump) -> None:
    _, dying, frames = panic_trace(gdb_run, dump)
    printed = dump.truth["call_trace"]
    user = next(number for number, line in enumerate(printed) if line.startswith("RIP: 0033:"))
    saved = (dying[-1]["registers"], printed[:user]), (frames[-1]["registers"], printed[user:])
    for registers, lines in saved:
        text = "\n".join(lines)
        shown = re.findall(r"\b(R[A-Z0-9]{2}): ([0-9a-f]{16})\b", text)
        assert len(shown) == 15
        for name, value in shown:
            assert registers[name.lower().replace("r08", "r8").replace("r09", "r9")] == f"0x{value}", name
        stack = re.search(r"RSP: 00(?:18|2b):([0-9a-f]{16}) EFLAGS: ([0-9a-f]{8})", text)
        assert stack is not None
        assert registers["rsp"] == f"0x{stack[1]}"
        assert int(registers["eflags"], 16) == int(stack[2], 16)
    struck = next(frame for frame in frames if not frame["inlined"])
    offset = re.search(r"RIP: 0010:\w+\+(0x[0-9a-f]+)", "\n".join(printed))
    assert offset is not None
    assert (struck["function"], struck["offset"]) == ("skb_release_data", int(offset[1], 16))
    assert struck["sp"] == dying[-1]["registers"]["rsp"]


def test_shinfo_of_the_overrun_skb(gdb_run: Gdb, dump: LabDump) -> None:
    fault = dump.truth["fault"]
    shown = gdb_run(f"shinfo {fault['skb']} --json", vmcore=dump.vmcore).succeeded().json()
    truth = dump.skbs()[fault["skb"]]
    assert shown["skb"] == fault["skb"]
    assert shown["head"] == truth["head"]
    assert shown["end"] == shown["shinfo"] == fault["first_damaged"] == truth["end"]
    # The damaged bytes are the shared info's first: nr_frags is the third of them.
    assert shown["fields"]["nr_frags"] == bytes.fromhex(fault["bytes"])[2]
    assert "shinfo.nr_frags" in {finding["rule"] for finding in shown["findings"]}


def test_skbcheck_calls_the_overrun_skb_corrupt(gdb_run: Gdb, dump: LabDump) -> None:
    skb = dump.truth["fault"]["skb"]
    run = gdb_run(f"skbcheck {skb} --json", "print $_kfindings", vmcore=dump.vmcore).succeeded()
    checked = run.json()
    assert checked["verdict"] == "corrupt"
    assert checked["checked"]["skbs"] == 1
    (finding,) = (finding for finding in checked["findings"] if finding["rule"] == "shinfo.nr_frags")
    assert finding["object"] == skb
    assert finding["member"] == "nr_frags"
    assert finding["severity"] == "corrupt"
    assert all(finding[key] for key in ("expected", "found", "message"))
    corrupt = sum(finding["severity"] == "corrupt" for finding in checked["findings"])
    assert f"= {corrupt}" in run.stdout


def test_the_other_sk_buffs_are_clean(gdb_run: Gdb, dump: LabDump) -> None:
    others = [skb for skb in dump.skbs() if skb != dump.truth["fault"]["skb"]]
    checked = gdb_run(f"skbcheck {' '.join(others)} --json", vmcore=dump.vmcore).succeeded().json()
    assert checked["findings"] == []
    assert checked["checked"]["skbs"] == len(others)
    assert checked["verdict"] == "clean"


SELECT = """python
def select(function):
    frame = gdb.newest_frame()
    while frame.name() != function:
        frame = frame.older()
    frame.select()
end"""


def test_the_skb_is_found_from_the_frames(gdb_run: Gdb, dump: LabDump) -> None:
    """Who knows nothing but the panic gets to the sk_buff: the arguments are there in GDB's own frames."""
    run = gdb_run(
        *SELECT.splitlines(),
        "python select('skb_release_data')",
        "print/x (unsigned long)skb",
        "shinfo skb --json",
        "python select('udp_sendmsg')",
        "print/x (unsigned long)sk",
        "skbwalk sk --json",
        vmcore=dump.vmcore,
        script=True,
    ).succeeded()
    fault = dump.truth["fault"]
    values = re.findall(r"^\$\d+ = (.*)$", run.stdout, re.MULTILINE)
    assert [int(value, 16) for value in values] == [int(fault["skb"], 16), int(fault["sock"], 16)]
    shinfo, walk = run.documents
    assert (shinfo["skb"], walk["sock"]) == (fault["skb"], fault["sock"])


def test_gdbs_own_backtrace_goes_to_user_mode(gdb_run: Gdb, dump: LabDump) -> None:
    """GDB's frames are the kernel's, inlined and tail-called functions among them, and end in user mode."""
    run = gdb_run("backtrace", vmcore=dump.vmcore).succeeded()
    names = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?([\w.]+) \(", run.stdout, re.MULTILINE)
    wanted = iter(plain(function) for function in printed_functions(dump.truth["call_trace"]))
    missing = next(wanted)
    for name in names:
        if plain(name) == missing:
            missing = next(wanted, "")
    assert missing == "", f"{missing} is not in its place in:\n{run.stdout}"
    assert "??" not in run.stdout and "corrupt stack" not in run.output, run.output


def test_gdbs_own_commands_work_in_the_same_session(gdb_run: Gdb, dump: LabDump) -> None:
    truth = dump.skbs()[dump.truth["fault"]["skb"]]
    run = gdb_run(
        f"print (*(struct sk_buff *){truth['skb']}).truesize",
        f"x/16xg {truth['head']}",
        f"x/2xg {truth['end']}",
        "info threads",
        "disassemble /s skb_release_data",
        "backtrace 3",
        "ptype struct sk_buff",
        vmcore=dump.vmcore,
    ).succeeded()
    assert f"= {truth['truesize']}\n" in run.stdout
    assert len(re.findall(r"^0x[0-9a-f]+:(\t0x[0-9a-f]{16}){2}$", run.stdout, re.MULTILINE)) == 9
    damaged = bytes.fromhex(dump.truth["fault"]["bytes"])
    first, second = (f"0x{int.from_bytes(damaged[at : at + 8], 'little'):016x}" for at in (0, 8))
    assert f"{truth['end']}:\t{first}\t{second}" in run.stdout
    assert re.search(r"^\* \d+ .*\"load\"", run.stdout, re.MULTILINE)
    assert "net/core/skbuff.c" in run.stdout
    assert re.search(r"^#1 ", run.stdout, re.MULTILINE)


def test_the_damaged_skbs_socket_is_walked(gdb_run: Gdb, dump: LabDump) -> None:
    """The crash works on the skb: it is off its queue, and what remains there is whole."""
    fault = dump.truth["fault"]
    walk = gdb_run(f"skbwalk {fault['sock']} --json", vmcore=dump.vmcore).succeeded().json()
    (truth,) = (sock for sock in dump.truth["socks"] if sock["sock"] == fault["sock"])
    (queue,) = (queue for queue in truth["queues"] if queue["queue"] == "write")
    (walked,) = (queue for queue in walk["queues"] if queue["queue"] == "write")
    left = [skb for skb in queue["skbs"] if skb != fault["skb"]]
    assert [skb["skb"] for skb in walked["skbs"]] == left
    assert (walked["qlen"], walked["complete"], walked["findings"]) == (len(left), True, [])


def test_what_cannot_be_judged_is_not_called_clean(gdb_run: Gdb, dump: LabDump) -> None:
    """An address that the kernel has not mapped holds no sk_buff; skb.address says so."""
    checked = gdb_run("skbcheck 0xffff888000000001 --json", vmcore=dump.vmcore).json()
    assert checked["verdict"] == "corrupt"
    assert [finding["rule"] for finding in checked["findings"]] == ["skb.address"]
