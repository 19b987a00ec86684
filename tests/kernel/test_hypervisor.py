"""Dumps that a hypervisor took, without kdump: each CPU's trace must be what the guest has said on its console."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump, Run, find_hypervisors, hypervisor_dumps
from qemu_elf import Note, QemuElf
from test_stacks import last_trace, missing_in_order, plain, printed

PANICKED = (
    "qemu-panic/panic.elf", "qemu-panic/panic.kdump", "qemu-offline/panic.kdump", "qemu-init/panic.kdump",
    "qemu-nmi/panic.elf",
)  # fmt: skip
ON_DEMAND = ("qemu-many/panic.elf", "qemu-many/panic.kdump", "qemu-init4/panic.elf", "qemu-init4/panic.kdump")
PRSTATUS_PID, PRSTATUS_GS_BASE = 32, 112 + 8 * 22
OFFLINE = 1  # the CPU that qemu-offline takes offline


def functions(trace: dict[str, Any]) -> list[str]:
    return [plain(frame["function"]) for frame in trace["frames"]]


def opened(gdb_run: Gdb, dump: LabDump, *commands: str, vmcore: Path | None = None) -> Run:
    return gdb_run(*commands, vmcore=vmcore or dump.vmcore, vmlinux=dump.vmlinux).succeeded()


def guests_cpus(dump: LabDump) -> dict[int, int]:
    """The PID that each CPU had, as the guest has said, but for the one that has panicked since; 0 where it may change.

    That is so for all but the lab's own tasks that spin there.
    """
    panicked = dump.truth["panic_task"]["cpu"]
    stay = {task["pid"] for task in dump.truth["tasks"] if task["comm"].startswith("lab-")}
    return {row["cpu"]: row["pid"] if row["pid"] in stay else 0 for row in dump.truth["cpus"] if row["cpu"] != panicked}


def still_there(cpus: dict[int, int], run: Run) -> dict[int, int]:
    """The same without those that another task had put off their CPU when the guest stopped, as GDB itself reads it."""
    current = [int(pid) for pid in re.findall(r"^current (\d+)$", run.stdout, re.MULTILINE)]
    assert len(current) == len(cpus)
    there = {cpu: pid if pid == now else 0 for (cpu, pid), now in zip(cpus.items(), current)}
    assert sum(map(bool, there.values())) * 2 >= sum(map(bool, cpus.values())), (cpus, current)
    return there


@pytest.fixture(params=hypervisor_dumps(*PANICKED, on_demand=ON_DEMAND))
def panicked(request: pytest.FixtureRequest) -> LabDump:
    return find_hypervisors(request.param)


def test_the_panic_trace_and_every_cpus_are_the_consoles(gdb_run: Gdb, panicked: LabDump) -> None:
    truth, task = panicked.truth, panicked.truth["panic_task"]
    others = guests_cpus(panicked)
    last = max((*others, task["cpu"]))
    read_current = [f'printf "current %d\\n", $per_cpu("runqueues", {cpu})->curr->pid' for cpu in others]
    run = opened(
        gdb_run, panicked, "kinfo", "kinfo --json", "kbt --json", f"kbt -c 0-{last} --json", "kps --json", "bt",
        *read_current,
    )  # fmt: skip
    others = still_there(others, run)
    info, panic, cpus, tasks = run.documents

    offline = [OFFLINE] if "offline" in panicked.name else []
    assert (info["cpus"], info["cpus_offline"]) == (len(others) + 1 + len(offline), offline)
    assert info["cpus_stopped"] == sorted(others)
    said = [f"{len(others)} stopped by panic"] * bool(others) + [f"{len(offline)} offline"] * bool(offline)
    assert f"CPUS: {info['cpus']}{f' ({chr(44).join(said)})'.replace(',', ', ') if said else ''}\n" in run.stdout
    assert {info["panic"][key] for key in ("cpu", "pid", "comm")} == {*task.values()}

    (trace,) = panic["tasks"]
    wanted = [name for name in printed(last_trace(truth["call_trace"])) if name not in ("dump_stack_lvl", "dump_stack")]
    assert "panic" in wanted and len(wanted) >= 5
    assert missing_in_order(wanted, functions(trace)) == []
    assert (trace["pid"], trace["cpu"], trace["ended"], trace["note"]) == (task["pid"], task["cpu"], "user", "")
    assert re.search(r"^#\d+ .* in panic \(", run.stdout, re.MULTILINE)

    by_cpu = {trace["cpu"]: trace for trace in cpus["tasks"]}
    assert {cpu: by_cpu[cpu]["pid"] for cpu, pid in others.items() if pid} == {c: p for c, p in others.items() if p}
    for cpu in others:
        assert "stop_this_cpu" in functions(by_cpu[cpu])[:3], cpu
        assert by_cpu[cpu]["ended"] == ("user" if by_cpu[cpu]["pid"] else "idle"), cpu
        assert by_cpu[cpu]["note"] == ""
    shown = {trace["cpu"]: printed(trace["lines"]) for trace in truth["nmi_traces"]}
    spinners = {task["pid"] for task in truth["tasks"] if task["comm"].startswith("lab-spin")}
    spinning = [cpu for cpu, pid in others.items() if pid in spinners]
    for cpu in spinning:  # in the module, as it has done before; an interrupt may have been above that
        assert missing_in_order(shown[cpu][shown[cpu].index("lab_spin") :], functions(by_cpu[cpu])) == [], cpu
    assert all("lab_spin_until" in functions(by_cpu[cpu]) for cpu in spinning)
    for cpu in offline:
        assert (by_cpu[cpu]["pid"], by_cpu[cpu]["ended"]) == (0, "idle")
        assert "native_play_dead" in functions(by_cpu[cpu])
    running = {(entry["pid"], entry["cpu"]) for entry in tasks["tasks"] if entry["state"] == "R" and entry["pid"]}
    assert running >= {(pid, cpu) for cpu, pid in others.items() if pid}


@pytest.mark.parametrize("name", hypervisor_dumps("qemu-offline/running.kdump"))
def test_a_guest_that_runs_with_a_cpu_offline(gdb_run: Gdb, name: str) -> None:
    dump = find_hypervisors(name)
    run = opened(gdb_run, dump, "kinfo --json", "kbt --json", "kbt -c 0-3 --json", f"kbt -c {OFFLINE}")
    info, shown, cpus = run.documents
    assert not info["crashed"] and "CPUS: 4 (1 offline)\n" in run.stdout
    assert (info["cpus"], info["cpus_stopped"], info["cpus_offline"]) == (4, [], [OFFLINE])
    assert set(info["registers"].values()) == {"hypervisor note"}
    assert [trace["cpu"] for trace in shown["tasks"]] == [0, 2, 3]
    pids = {row["cpu"]: row["pid"] for row in dump.truth["cpus"]}
    by_cpu = {trace["cpu"]: trace for trace in cpus["tasks"]}
    assert all(trace["ended"] in ("user", "idle", "kthread") for trace in cpus["tasks"])
    # The guest runs when it is dumped: another task may have one of these CPUs for a moment.
    as_said = [cpu for cpu in (0, 2) if by_cpu[cpu]["pid"] == pids[cpu]]
    if 0 in as_said:
        assert by_cpu[0]["frames"] == [] or by_cpu[0]["ended"] == "user"  # it spins in user mode
    if 2 in as_said:
        assert "lab_spin" in functions(by_cpu[2])[-12:], functions(by_cpu[2])
    assert "native_play_dead" in functions(by_cpu[OFFLINE])


@pytest.mark.parametrize("name", hypervisor_dumps("qemu-panic/panic.elf")[:1])
def test_a_stopped_cpu_is_a_thread_of_gdbs(gdb_run: Gdb, name: str) -> None:
    dump = find_hypervisors(name)
    pid = guests_cpus(dump)[1]
    run = opened(gdb_run, dump, f"thread find CPU 1\\b|{pid}", "info threads", "thread apply all -q bt 12")
    assert run.stdout.count("stop_this_cpu (") == 3
    assert "lab_spin_until" in run.stdout


class TestOtherNotes:
    """The same memory with other notes than QEMU's own."""

    @pytest.fixture(params=hypervisor_dumps("qemu-panic/panic.elf"))
    def dump(self, request: pytest.FixtureRequest) -> LabDump:
        return find_hypervisors(request.param)

    def test_virtualbox(self, gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
        path = QemuElf(dump.vmcore).write_virtualbox(tmp_path / "virtualbox.elf")
        commands = ("kinfo --json", "kbt -c 0-3 --json", "info registers rip rsp gs_base cs eflags")
        expected, got = (opened(gdb_run, dump, *commands, vmcore=vmcore) for vmcore in (dump.vmcore, path))
        assert got.documents[1] == expected.documents[1]
        assert got.documents[0]["registers"] == {str(cpu): "hypervisor note" for cpu in range(4)}
        rows = [re.findall(r"^(\w+) +0x(\w+)", run.stdout, re.MULTILINE) for run in (expected, got)]
        assert rows[0] == rows[1] and len(rows[0]) == 5

    def test_an_old_virtualbox_has_no_registers_that_we_know(self, gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
        path = QemuElf(dump.vmcore).write_virtualbox(tmp_path / "virtualbox.elf", 0x00010000)
        (info,) = opened(gdb_run, dump, "kinfo --json", vmcore=path).documents
        assert set(info["registers"].values()) == {"none"}

    def test_the_kernel_numbers_cpus_in_another_order(self, gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
        """As after hotplug: in the kernel, a CPU's per-CPU base tells which one it is."""
        elf = QemuElf(dump.vmcore)
        path = elf.write(tmp_path / "renumbered.elf", _numbered(elf.notes, (1, 4, 2, 3)))
        commands = ("kbt -c 0-3 --json",)
        expected, got = (opened(gdb_run, dump, *commands, vmcore=vmcore) for vmcore in (dump.vmcore, path))
        assert got.json() == expected.json()

    def test_registers_of_another_cpu_are_not_shown(self, gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
        elf = QemuElf(dump.vmcore)
        notes = [_without_base(note) for note in _numbered(elf.notes, (1, 4, 3, 2))]
        path = elf.write(tmp_path / "swapped.elf", notes)
        run = opened(gdb_run, dump, "kbt -c 0-3 --json", "kbt -c 1", "kinfo --json", vmcore=path)
        (known,) = opened(gdb_run, dump, "kbt -c 0-3 --json").documents
        wanted = {trace["cpu"]: trace for trace in known["tasks"]}
        for trace in run.documents[0]["tasks"]:
            cpu = trace["cpu"]
            if cpu not in (1, 3):
                assert trace == wanted[cpu]
                continue
            assert f"the hypervisor note for CPU {cpu} has another one's registers: sp 0x" in trace["note"]
            assert "these frames were found on its stack, from " in trace["note"]
            # From the function on that never returns, they are the same.
            ours, theirs = (functions(found) for found in (trace, wanted[cpu]))
            assert theirs[-len(ours) :] == ours and ours[0] in ("panic", "stop_this_cpu")
        assert "another one's registers" in run.stdout
        assert run.documents[1]["registers"] == {
            "0": "hypervisor note",
            "1": "none",
            "2": "hypervisor note",
            "3": "none",
        }

    def test_a_dump_without_registers(self, gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
        elf = QemuElf(dump.vmcore)
        path = elf.write(tmp_path / "bare.elf", [Note(b"NOTHING", 1, b"")])
        run = opened(gdb_run, dump, "kbt -c 0-3 --json", "kinfo --json", vmcore=path)
        (known,) = opened(gdb_run, dump, "kbt -c 0-3 --json").documents
        assert run.documents[1]["cpus_stopped"] == [0, 1, 3]
        for trace, wanted in zip(run.documents[0]["tasks"], known["tasks"]):
            ours, theirs = functions(trace), functions(wanted)
            assert theirs[-len(ours) :] == ours and ours[0] in ("panic", "stop_this_cpu")
            assert trace["note"].startswith(f"CPU {trace['cpu']} left no registers for this running task; these frames")
            assert (trace["pid"], trace["ended"]) == (wanted["pid"], wanted["ended"])


def _numbered(notes: list[Note], pids: tuple[int, ...]) -> list[Note]:
    """The notes with other PIDs in the NT_PRSTATUS: for QEMU, cpu_index + 1."""
    given = iter(pids)
    return [
        _with(note, PRSTATUS_PID, struct.pack("<i", next(given))) if note.name == b"CORE" else note for note in notes
    ]


def _without_base(note: Note) -> Note:
    return _with(note, PRSTATUS_GS_BASE, bytes(8)) if note.name == b"CORE" else note


def _with(note: Note, at: int, data: bytes) -> Note:
    return note._replace(descriptor=note.descriptor[:at] + data + note.descriptor[at + len(data) :])
