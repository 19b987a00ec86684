"""The matrix of causes: what ktriage makes of kernels that crashed by themselves, and whether any sentence is false.

A dump is named KERNEL-SCENARIO, or KERNEL-SCENARIO@LEVEL for a copy that makedumpfile filters again, with -d LEVEL.
What is right says scripts/lab/crashes.py.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts" / "lab"))
from crashes import CRASHES, Crash  # noqa: E402

LINES = ("6.1", "6.12")
LEVEL = 31
DUMPS = [f"{line}-{crash.name}" for line in LINES for crash in CRASHES]
DUMPS += [f"{LINES[-1]}-{crash.name}@{LEVEL}" for crash in CRASHES]
TIMEOUT = 300
RIGHT, HALF, WRONG = "right", "half", "WRONG"
# Of these no sk_buff need be involved; of all others ktriage may not say that none is.
_WITHOUT_SKB = ("unrelated", "linkage", "")

Record = dict[str, Any]


def measure(vmcore: Path, name: str) -> Record:
    """What the three commands say of one dump, how right that is, and what of it is false."""
    base, _, level = name.partition("@")
    crash = next(crash for crash in CRASHES if crash.name == base.partition("-")[2])
    with tempfile.TemporaryDirectory(prefix="causes-") as folder:
        if level:
            copy = Path(folder, "vmcore")
            words = ["makedumpfile", "-l", "-d", level, str(vmcore), str(copy)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            vmcore = copy
        story, everything = ask(vmcore, "ktriage", "skbcheck --all")
        skbs = list(dict.fromkeys([skb["skb"] for skb in story["skbs"]] + [story["skb"]] * bool(story["skb"])))
        alone = ask(vmcore, *(f"skbcheck {skb}" for skb in skbs)) if skbs else []
    cause, culprit = story["cause"], story["culprit"]
    return {
        "dump": name,
        "wanted": [crash.cause, crash.culprit],
        "found": [cause["kind"] if cause else None, culprit["function"] if culprit else None],
        "outcome": outcome(crash, story),
        "verdicts": [document["verdict"] for document in (story, everything, *alone)],
        "unread": story["unread"],
        "false": [*false_sentences(crash, story), *disagreements(story, everything, alone)],
    }


def ask(vmcore: Path, *commands: str) -> list[Record]:
    """The JSON documents of some commands, in one gdb process."""
    words = ["gdb", "-nx", "-batch", "-ex", f"source {ROOT}/gdb_kdump/init.py", "-ex", f"target kdump {vmcore}"]
    words += [word for command in commands for word in ("-ex", f"{command} --json")]
    done = subprocess.run(
        words, check=False, text=True, errors="replace", timeout=TIMEOUT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": ""},
    )  # fmt: skip
    documents = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if len(documents) != len(commands):
        sys.exit(f"{vmcore}: {len(documents)} of {len(commands)} commands have answered:\n{done.stdout}")
    return documents


def outcome(crash: Crash, story: Record) -> str:
    """Right where kind and culprit are; half where no kind, or nobody, is named; else wrong."""
    kind = story["cause"]["kind"] if story["cause"] else None
    who = story["culprit"]["function"] if story["culprit"] else ""
    wanted = crash.cause or "unrelated"  # of the healthy twin
    if kind not in (wanted, None) or who not in (crash.culprit, ""):
        return WRONG
    return RIGHT if kind == wanted and who == crash.culprit else HALF


def false_sentences(crash: Crash, story: Record) -> list[str]:
    """What ktriage says that is not so."""
    culprit, summary = story["culprit"], story["summary"]
    false = []
    if culprit and culprit["function"] != crash.culprit:
        false.append(f"{culprit['function']} is accused, where {crash.culprit or 'nobody can be'}")
    if not crash.cause:
        return false + [f"{finding['rule']} of a healthy system" for finding in story["findings"]]
    if crash.cause == "unrelated":
        return false + [f"{finding['rule']}, where nothing is wrong with sk_buffs" for finding in story["findings"]]
    if story["verdict"] == "clean" or "is sound" in summary:
        false.append("clean, where the kernel has proved otherwise")
    if crash.cause not in _WITHOUT_SKB and "not about an sk_buff" in summary:
        false.append("not about an sk_buff, where it is")
    return false


def disagreements(story: Record, everything: Record, alone: list[Record]) -> list[str]:
    """Where skbcheck --all does not say what ktriage, or skbcheck of one sk_buff, does."""
    told = {(finding["rule"], finding["object"], finding["member"]) for finding in everything["findings"]}
    false = []
    for who, document in [("ktriage", story), *(("skbcheck SKB", document) for document in alone)]:
        if document["verdict"] == "corrupt" and everything["verdict"] != "corrupt":
            false.append(f"corrupt by {who}, {everything['verdict']} by skbcheck --all")
        for finding in document["findings"]:
            key = (finding["rule"], finding["object"], finding["member"])
            if finding["severity"] == "corrupt" and key not in told:
                false.append(f"{' '.join(key)} by {who}, not by skbcheck --all")
    return false


def show(documents: list[Record]) -> None:
    """Prints the matrix: a line for each cause, a column for each kernel, and what is false."""
    cells: dict[str, dict[str, str]] = {}
    for document in documents:
        line, _, scenario = document["dump"].partition("-")
        scenario, _, level = scenario.partition("@")
        column = f"{line} -d {level}" if level else line
        label = f"{scenario} ({document['wanted'][0] or 'nothing wrong'})"
        kind, who = document["found"]
        cell = document["outcome"] if document["outcome"] == RIGHT else f"{document['outcome']}: {kind}, {who}"
        cells.setdefault(label, {})[column] = cell + (" FALSE" if document["false"] else "")
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    width = max(map(len, cells))
    print(f"  {'':{width}} " + " ".join(f"{column:28}" for column in columns))
    for label, row in cells.items():
        print(f"  {label:{width}} " + " ".join(f"{row.get(column, '-'):28}" for column in columns).rstrip())
    counts = [sum(document["outcome"] == kind for document in documents) for kind in (RIGHT, HALF, WRONG)]
    false = [(document["dump"], sentence) for document in documents for sentence in document["false"]]
    print(f"{counts[0]} right, {counts[1]} half, {counts[2]} wrong of {len(documents)}; {len(false)} false sentences")
    for name, sentence in false:
        print(f"  {name}: {sentence}")
