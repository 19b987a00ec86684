"""A verdict never depends on what was asked before: each is asked first, last, and twice, in either order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

# Damaged slabs and trees, guards of slub_debug, damaged GRO lists and qdiscs, and a panic about an sk_buff.
SCENARIOS = ("faults", "faults-slub", "faults-queues", "reference")
KERNEL = "6.1"
PAGE = 4096  # bytes: what stands in one page stands in one slab
OF_SLABS = ("freelist-wild", "freed-twice", "poison-hit", "redzone-left")
MOST_OF_A_SLAB, MOST_OTHERS = 3, 8  # sk_buffs of one dump

Answer = dict[str, Any]


@pytest.fixture(scope="module", params=SCENARIOS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{KERNEL}-{request.param}")


def as_alone(finding: Answer) -> tuple[str, ...]:
    """A finding without what only the sweep says: where it met the sk_buff, and its doubt of one on no queue."""
    message = re.sub(r" \((it is on no queue|on [^()]*)\)$", "", finding["message"])
    severity = "" if message != finding["message"] else finding["severity"]
    return (
        finding["rule"],
        finding["object"],
        finding["member"],
        finding["expected"],
        finding["found"],
        message,
        severity,
    )


def told(answer: Answer) -> set[tuple[str, ...]]:
    findings = {as_alone(finding) for finding in answer["findings"]}
    return findings | {(*finding[:-1], "") for finding in findings}


def asked_for(dump: LabDump) -> list[str]:
    """sk_buffs in damaged slabs, and others that were damaged, or that the guest has published."""
    faults = dump.truth["faults"]
    pages = {int(fault["object"], 16) // PAGE for fault in faults if fault["kind"] in OF_SLABS}
    skbs = sorted(dump.skbs())
    near = [skb for page in pages for skb in [skb for skb in skbs if int(skb, 16) // PAGE == page][:MOST_OF_A_SLAB]]
    trees = [fault["skb"] for fault in faults if fault["kind"].startswith("rb-")]
    others = [fault["skb"] for fault in faults if fault["skb"] not in near] + list(dump.skbs())
    return list(dict.fromkeys(near + trees + others[:MOST_OTHERS]))


def test_each_verdict_is_the_same_first_last_and_twice(gdb_run: Gdb, dump: LabDump) -> None:
    def answers(commands: list[str]) -> list[tuple[str, Answer]]:
        words = [word for command in commands for word in (f"{command} --json", "output $_kfindings", r"echo \n")]
        run = gdb_run(*words, vmcore=dump.vmcore)
        assert len(run.documents) == len(commands), run.output
        counted = [int(line) for line in run.stdout.splitlines() if line.isdigit()]
        assert counted == [
            sum(finding["severity"] == "corrupt" for finding in document["findings"]) for document in run.documents
        ]
        return list(zip(commands, run.documents))

    skbs = asked_for(dump)
    alone = [f"skbcheck {skb}" for skb in skbs]
    together = [f"skbcheck {' '.join(skbs)}", f"skbcheck {' '.join(reversed(skbs))}"]
    broad = ["skbcheck --all", "ktriage"]
    orders = (
        [*broad, *together, *alone, *reversed(alone), *reversed(broad)],
        [*reversed(alone), *alone, *reversed(together), *reversed(broad)],
    )
    given: dict[str, list[Answer]] = {}
    for order in orders:
        for command, answer in answers(order):
            given.setdefault(command, []).append(answer)
    for command, same in given.items():
        for answer in same:
            assert answer["findings"] == same[0]["findings"], command
            assert answer["verdict"] == same[0]["verdict"], command

    singles = {skb: given[f"skbcheck {skb}"][0] for skb in skbs}
    for command in together:
        findings = {as_alone(finding) for finding in given[command][0]["findings"]}
        assert findings == {as_alone(finding) for answer in singles.values() for finding in answer["findings"]}
    of_all, of_triage = told(given["skbcheck --all"][0]), told(given["ktriage"][0])
    suspects = {suspect["skb"] for suspect in given["ktriage"][0]["skbs"]}
    for skb, answer in singles.items():
        for finding in map(as_alone, answer["findings"]):
            assert finding in of_all or (*finding[:-1], "") in of_all, f"skbcheck --all does not tell {finding}"
            assert skb not in suspects or finding in of_triage, f"ktriage does not tell {finding}"
    if "freed-twice" in {fault["kind"] for fault in dump.truth["faults"]}:
        # This means something: one slab is told of several sk_buffs, and a node's wild pointer is no device.
        every = [finding for answer in singles.values() for finding in answer["findings"]]
        of_slabs = [as_alone(finding) for finding in every if finding["rule"].startswith("slab.")]
        assert len(of_slabs) > len(set(of_slabs)) > 0
        wild = next(fault["skb"] for fault in dump.truth["faults"] if fault["kind"] == "rb-child-wild")
        assert "skb.refs" not in {finding["rule"] for finding in singles[wild]["findings"]}
