"""Dumps that QEMU took of a running guest, and what makedumpfile makes of one: the same memory in every container."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from pytest_gdb_fixtures.lab import DEFAULT_FOLDER
from pytest_gdb_fixtures.process import Gdb

from gdb_kdump.channel.client import Server
from gdb_kdump.channel.wire import MAX_READ
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.errors import Why
from gdb_kdump.formats.vmcoreinfo import offset_of, parse_vmcoreinfo
from gdb_kdump.records.runs import Hole

PAGE = 4096
LAB = Path(os.environ.get("GDB_KDUMP_LAB") or DEFAULT_FOLDER)
KERNELS = ("6.1", "6.12")


def live(kernel: str, name: str) -> Path:
    path = LAB / f"{kernel}-live" / name
    if not path.is_file():
        pytest.fail(f"{path} is missing: make it with `scripts/lab/make --kernel {kernel} live`", pytrace=False)
    return path


def release(path: Path) -> str:
    with Server.start(str(path)) as server:
        return str(server.info().release)


def vmlinux(kernel: str) -> Path:
    return Path("/usr/lib/debug/boot", f"vmlinux-{release(live(kernel, 'plain.elf'))}")


class Reference:
    """The memory of a guest, read from QEMU's ELF file by its segments, and where its kernel maps it."""

    def __init__(self, kernel: str) -> None:
        self.path = live(kernel, "plain.elf")
        self.vmlinux = vmlinux(kernel)
        with self.path.open("rb") as file:
            self.segments = [
                (segment["p_paddr"], segment.data())
                for segment in ELFFile(file).iter_segments()
                if segment["p_type"] == "PT_LOAD"
            ]
        with Server.start(str(self.path)) as server:
            vmcoreinfo = parse_vmcoreinfo(server.info().vmcoreinfo or "")
            self.kaslr_offset = offset_of(vmcoreinfo, {}) or 0
            symbol = ElfFile(self.vmlinux).find_symbol("page_offset_base")
            assert symbol
            (found,) = server.read(symbol.value + self.kaslr_offset, 8)
            assert isinstance(found, bytes)
            self.direct_map = int.from_bytes(found, "little")

    def compare(self, *paths: Path) -> dict[Why | None, int]:
        """Compare every page with what a container has; returns how many were the same, and how many lack and why."""
        found: dict[Why | None, int] = {None: 0}
        with Server.start(*map(str, paths)) as server:
            server.set_direct_map(self.direct_map)
            for start, data in self.segments:
                if start >= 1 << 30:  # the machine's ROM and video memory: not in the direct map
                    continue
                for at in range(0, len(data), MAX_READ):
                    size = min(MAX_READ, len(data) - at)
                    for run in server.read(self.direct_map + start + at, size):
                        if isinstance(run, Hole):
                            found[run.why] = found.get(run.why, 0) + run.size // PAGE
                            at += run.size
                        else:
                            assert run == data[at : at + len(run)], f"{paths[0]}: {start + at:#x}"
                            found[None] += len(run) // PAGE
                            at += len(run)
        return found


@pytest.fixture(scope="module", params=KERNELS)
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


@pytest.fixture(scope="module")
def old_reference() -> Reference:
    return Reference("6.1")


@pytest.fixture(scope="module")
def vmcore(old_reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """QEMU's ELF file as /proc/vmcore would be: with virtual addresses, and headers that makedumpfile 1.7.2 takes."""
    with old_reference.path.open("rb") as file:
        notes = next(segment.data() for segment in ELFFile(file).iter_segments() if segment["p_type"] == "PT_NOTE")
    count = 1 + len(old_reference.segments)
    at = 64 + 56 * count
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 0)
    at += len(notes)
    at += -at % PAGE
    start = at
    for physical, data in old_reference.segments:
        virtual = old_reference.direct_map + physical
        head += struct.pack("<IIQQQQQQ", 1, 7, at, virtual, physical, len(data), len(data), 0)
        at += len(data)
    path = tmp_path_factory.mktemp("vmcore") / "vmcore"
    with path.open("wb") as file:
        file.write((head + notes).ljust(start, b"\0"))
        for _, data in old_reference.segments:
            file.write(data)
    return path


def makedumpfile(*arguments: str | Path, status: int = 0) -> None:
    done = subprocess.run(["makedumpfile", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr


def test_qemus_formats_have_the_same_memory(reference: Reference, tmp_path: Path) -> None:
    whole = reference.compare(reference.path)
    assert set(whole) <= {None, Why.UNMAPPED} and whole[None] > 30000  # the kernel unmaps some of its own image
    folder = reference.path.parent
    assert reference.compare(folder / "flat.kdump") == whole
    rearranged = tmp_path / "rearranged"
    with (folder / "flat.kdump").open("rb") as stream:
        subprocess.run(["makedumpfile", "-R", rearranged], stdin=stream, stdout=subprocess.DEVNULL, check=True)
    assert reference.compare(rearranged) == whole
    paging = reference.compare(folder / "paging.elf")
    assert paging[None] > 0.99 * whole[None] and set(paging) <= {None, Why.UNMAPPED, Why.FILTERED}


@pytest.mark.parametrize(
    "options", [(), ("-c",), ("-l",), ("-E",), ("-c", "-d", "31"), ("-E", "-d", "31"), ("-F", "-l"), ("-F", "-E")]
)
def test_makedumpfiles_formats_have_the_same_memory(
    old_reference: Reference, vmcore: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "vmcore"
    words = [*options, *(() if "-d" in options else ("-d", "0")), str(vmcore)]
    if "-F" in options:
        with path.open("wb") as stream:
            subprocess.run(["makedumpfile", *words], stdout=stream, stderr=subprocess.DEVNULL, check=True)
    else:
        makedumpfile(*words, path)
    found = old_reference.compare(path)
    assert set(found) <= {None, Why.UNMAPPED, Why.FILTERED}
    assert found[None] > (2000 if "31" in options else 30000)
    assert ("31" in options) == (found.get(Why.FILTERED, 0) > 1000)


def test_a_split_dump(gdb_run: Gdb, old_reference: Reference, vmcore: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"part{number}" for number in range(3)]
    makedumpfile("-c", "-d", "0", "--split", "--splitblock-size", "32", vmcore, *parts)
    found = old_reference.compare(*parts)
    assert set(found) <= {None, Why.UNMAPPED, Why.FILTERED} and found[None] > 30000
    for missing in parts[1:]:
        lacking = old_reference.compare(*(part for part in parts if part != missing))
        # Page tables can be in the missing part: without them it is not known which pages the kernel had unmapped.
        again = lacking[None] + lacking[Why.TRUNCATED] - found[None]
        assert lacking[Why.TRUNCATED] > 5000 and 0 <= again <= found.get(Why.UNMAPPED, 0)
        assert sum(lacking.values()) == sum(found.values())
    whole = gdb_run(f"target kdump {parts[2]} {parts[0]} {parts[1]} {old_reference.vmlinux}", "kps --json").succeeded()
    assert len(whole.json()["tasks"]) > 40 and "split into 3 files" in whole.stdout and "MISSING" not in whole.stdout
    partial = gdb_run(f"target kdump {parts[0]} {parts[2]}", "print linux_banner")
    assert f"MISSING: the dump is split and not all of its files were named: missing is the one after {parts[0]}" in (
        partial.stdout
    )


@pytest.mark.parametrize("options", [("-c",), ("-E",)])
def test_a_dump_that_reached_its_limit(
    old_reference: Reference, vmcore: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "limited"
    makedumpfile(*options, "-d", "0", "-L", "20M", vmcore, path, status=1)
    found = old_reference.compare(path)
    assert found[Why.TRUNCATED] > 1000 and found[None] > 1000
    with Server.start(str(path)) as server:
        report = server.info().report
    assert report.incomplete and "reached its limit" in report.sentence
    assert f"{report.pages_missing:,} of {report.pages:,} pages" in report.sentence
    if "-E" in options:
        assert not found.get(Why.FILTERED) and "and all memory from 0x" in report.sentence


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["bare.elf", "bare.kdump", "paging.elf", "flat.kdump"])
def test_a_session_on_a_running_guest(gdb_run: Gdb, kernel: str, name: str) -> None:
    path, image = live(kernel, name), vmlinux(kernel)
    target = f"target kdump {path} {image}"
    run = gdb_run(target, "kinfo --json", "kps --json", "print linux_banner").succeeded()
    info, tasks = run.documents[0], {task["pid"]: task["comm"] for task in run.documents[1]["tasks"]}
    assert int(info["kaslr_offset"], 16) == offset_of(noted(kernel), {})
    assert f"vmlinux-{info['release']}" == image.name
    assert tasks[1] == "init" and tasks[2] == "kthreadd" and len(tasks) > 40
    assert f"Linux version {info['release']}" in run.stdout
    other = gdb_run(f"target kdump --kaslr 0x3f000000 {path} {image}")
    assert other.status == 1 and f"offset {int(info['kaslr_offset'], 16):#x}, not at 0x3f000000" in other.stderr


def noted(kernel: str) -> dict[str, str]:
    with Server.start(str(live(kernel, "plain.elf"))) as server:
        return parse_vmcoreinfo(server.info().vmcoreinfo or "")


def test_a_vmcoreinfo_in_a_file(gdb_run: Gdb, tmp_path: Path) -> None:
    path, file = live("6.1", "bare.elf"), tmp_path / "vmcoreinfo"
    with Server.start(str(live("6.1", "plain.elf"))) as server:
        file.write_text(server.info().vmcoreinfo or "")
    (info,) = gdb_run(f"target kdump --vmcoreinfo {file} {path}", "kinfo --json").succeeded().documents
    assert info["build_id"] in file.read_text() and int(info["kaslr_offset"], 16) == offset_of(noted("6.1"), {})
    # What makedumpfile -g writes has no address of this boot: the kernel is found, and the file names its build-id.
    image = vmlinux("6.1")
    makedumpfile("-g", file, "-x", image)
    (again,) = gdb_run(f"target kdump --vmcoreinfo {file} {path} {image}", "kinfo --json").succeeded().documents
    assert again["kaslr_offset"] == info["kaslr_offset"]
    file.write_text("nothing\n")
    run = gdb_run(f"target kdump --vmcoreinfo {file} {path}")
    assert run.status == 1 and "is no VMCOREINFO" in run.stderr


def test_a_wrong_vmlinux_is_refused(gdb_run: Gdb) -> None:
    run = gdb_run(f"target kdump {live('6.1', 'bare.elf')} {vmlinux('6.12')}")
    assert run.status == 1 and "this vmlinux was not found in its memory" in run.stderr


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_nothing_has_crashed(kernel: str, gdb_run: Gdb) -> None:
    """No task is the panic task: kbt has those that ran, ktriage judges what there is, and both say why."""
    dump, image = live(kernel, "plain.elf"), vmlinux(kernel)
    run = gdb_run("kinfo --json", "kbt --json", "ktriage --json", "kbt", vmcore=dump, vmlinux=image).succeeded()
    info, shown, story = run.documents
    assert [task["cpu"] for task in shown["tasks"]] == list(range(info["cpus"]))
    assert all(task["ended"] in ("user", "kthread", "idle") and not task["note"] for task in shown["tasks"])
    assert not info["crashed"] and not shown["crashed"] and not story["crashed"]
    assert (story["frame"], story["panic"]["task"]) == (None, None)
    assert story["summary"].startswith("Nothing crashed: the kernel was running when the dump was taken.")
    assert "skbcheck --all judged" in story["summary"]
    assert "nothing crashed: the kernel was running" in run.stdout and "none: the kernel was running" in run.stdout


def test_memory_as_it_is(gdb_run: Gdb, old_reference: Reference, tmp_path: Path) -> None:
    """The memory of that guest as pmemsave and LiME would write it: tasks, frames and the log are the same."""
    raw, lime = tmp_path / "memory", tmp_path / "memory.lime"
    ram = [(start, data) for start, data in old_reference.segments if start < 1 << 30]
    with raw.open("wb") as file, lime.open("wb") as ranges:
        for start, data in ram:
            file.seek(start)
            file.write(data)
            ranges.write(struct.pack("<4sIQQ8x", b"EMiL", 1, start, start + len(data) - 1) + data)
    commands = ("kps --json", "kbt -a --json", "klog --json")
    told = [
        gdb_run(*commands, "kinfo --json", vmcore=path, vmlinux=old_reference.vmlinux).documents
        for path in (old_reference.path, raw, lime)
    ]
    assert [documents[-1]["format"] for documents in told[1:]] == ["raw memory", "LiME"]
    noted, as_it_is, in_ranges = (documents[:-1] for documents in told)
    assert as_it_is == in_ranges
    assert len(noted[0]["tasks"]) == len(as_it_is[0]["tasks"]) > 40
    # Memory has no registers: what runs has no frames, or those of its stack.
    running = {task["pid"] for task in noted[1]["tasks"] if task["state"] == "R" and task["cpu"] is not None}
    asleep = [[task for task in one["tasks"] if task["pid"] not in running] for one in (noted[1], as_it_is[1])]
    assert asleep[0] == asleep[1] and len(asleep[0]) > 40
