"""A dump whose makedumpfile did not know the kernel's slab pages: said once, with the remedy, never as corruption."""

from __future__ import annotations

from collections.abc import Callable

from pytest_gdb_fixtures import Gdb, LabDump

SAID = "makedumpfile has left slab pages out of this dump"


def test_it_is_said_once_and_gaps_of_that_cause_are_counted(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump("6.12-old-makedumpfile")
    run = gdb_run("kps", "ksock", "kslab -l", "kslab -l --json", vmcore=dump.vmcore).succeeded()
    assert run.output.count(SAID) == 1
    (said,) = [line for line in run.errors if SAID in line]
    assert "-d 23" in said and "1.7.6" in said
    filtered = [problem for problem in run.json()["missing"] if "(FILTERED)" in problem]
    assert filtered
    # In text they are counted; the addresses are in JSON.
    places = "one place lies" if len(filtered) == 1 else f"{len(filtered)} places lie"
    assert f"{places} in pages that makedumpfile left out" in run.stdout
    text = "".join(line for line in run.output.splitlines(keepends=True) if not line.startswith("{"))
    assert "(FILTERED)" not in text


def test_no_dump_of_a_makedumpfile_that_knows_its_kernel_is_told_so(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump]
) -> None:
    for name in ("6.1-healthy", "6.12-healthy"):
        run = gdb_run("kps", "skbcheck --all", "kslab -l", vmcore=lab_dump(name).vmcore).succeeded()
        assert SAID not in run.output


def test_a_page_that_was_asked_for_is_looked_at(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    run = gdb_run("kinfo", "kinfo --json", vmcore=lab_dump("6.12-old-makedumpfile").vmcore).succeeded()
    slabs = run.json()["slabs_left_out"]
    assert 3 < slabs["missing"] < slabs["looked_at"] <= 200
    assert f"LEFT OUT: slab pages, {slabs['missing']} of {slabs['looked_at']} looked at" in run.stdout
