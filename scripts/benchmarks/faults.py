"""The fault matrix: does skbcheck report each kind of planted damage, by the right rule, on the right object?

Every socket of the dump's truth is checked, the sound ones too, in one gdb process.  A finding that is neither of a
fault nor a consequence that the truth lists is a false one.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300
MARK = "@@ "
FOUND, WRONG, MISSED = "found", "wrong rule", "MISSED"

Record = dict[str, Any]


def measure(vmcore: Path, name: str) -> Record:
    """The outcome for each fault of one dump, and the false findings."""
    truth = json.loads(vmcore.with_suffix(".truth.json").read_text())
    findings, errors = check(vmcore, [sock["sock"] for sock in truth["socks"]])
    outcomes = [judge(fault, findings) for fault in truth["faults"]]
    return {
        "dump": name,
        "faults": len(outcomes),
        "found": sum(outcome["outcome"] == FOUND for outcome in outcomes),
        "outcomes": outcomes,
        "false": [finding for finding in findings if not is_explained(finding, truth["faults"])],
        "errors": errors,
    }


def check(vmcore: Path, socks: list[str]) -> tuple[list[Record], dict[str, str]]:
    """What skbcheck finds on each socket, every finding once; and by socket what it said where it gave no JSON."""
    words = ["gdb", "-nx", "-batch", "-ex", f"source {ROOT}/gdb_kdump/init.py", "-ex", f"target kdump {vmcore}"]
    for sock in socks:
        words += ["-ex", rf"echo \n{MARK}{sock}\n", "-ex", f"skbcheck --json --sock {sock}"]
    done = subprocess.run(
        words, check=False, text=True, errors="replace", timeout=TIMEOUT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": ""},
    )  # fmt: skip
    findings: dict[tuple[str, str, str], Record] = {}
    errors: dict[str, str] = {}
    for answer in f"\n{done.stdout}".split(f"\n{MARK}")[1:]:
        sock, _, output = answer.partition("\n")
        document = next((line for line in output.splitlines() if line.startswith("{")), None)
        if document is None:
            errors[sock] = output.strip()
            continue
        for finding in json.loads(document)["findings"]:
            findings.setdefault((finding["rule"], finding["object"], finding["member"]), finding)
    missing = set(socks) - {answer.partition("\n")[0] for answer in done.stdout.split(MARK)[1:]}
    return list(findings.values()), errors | dict.fromkeys(missing, f"gdb ended with status {done.returncode}")


def judge(fault: Record, findings: list[Record]) -> Record:
    """Whether a fault was found: by which rule, and how severe it is."""
    on_it = [finding for finding in findings if finding["object"] in fault["objects"]]
    right = [finding for finding in on_it if finding["rule"] in fault["rule"]]
    # The best rule before the others, a corrupt finding before a suspect one.
    right.sort(key=lambda finding: (fault["rule"].index(finding["rule"]), finding["severity"]))
    outcome = FOUND if right else WRONG if on_it else MISSED
    return {
        "kind": fault["kind"],
        "label": fault["label"],
        "wanted": fault["rule"],
        "object": fault["object"],
        "outcome": outcome,
        "severity": right[0]["severity"] if right else None,
        "rules": list(dict.fromkeys(finding["rule"] for finding in right or on_it)),
    }


def is_explained(finding: Record, faults: list[Record]) -> bool:
    """Whether a finding is one of a fault, or a consequence of one."""
    rule, addr = finding["rule"], finding["object"]
    return any(
        (rule in fault["rule"] and addr in fault["objects"])
        or any(addr == where and consequence in (rule, "*") for consequence, where in fault["also"])
        for fault in faults
    )


def show(documents: list[Record]) -> None:
    """Prints the matrix: a line for each fault, a column for each dump, and what is false."""
    columns = [document["dump"] for document in documents]
    cells: dict[str, dict[str, str]] = {}
    for document in documents:
        for outcome in document["outcomes"]:
            row = outcome["label"] if outcome["label"].partition(".")[0] == outcome["kind"] else (
                f"{outcome['label']} ({outcome['kind']})"
            )  # fmt: skip
            cells.setdefault(row, {})[document["dump"]] = _cell(outcome)
    width = max(len(row) for row in cells)
    print(f"  {'':{width}} " + " ".join(f"{column:34}" for column in columns))
    for row, line in cells.items():
        print(f"  {row:{width}} " + " ".join(f"{line.get(column, '-'):34}" for column in columns).rstrip())
    for document in documents:
        corrupt = sum(finding["severity"] == "corrupt" for finding in document["false"])
        print(f"{document['dump']}: {document['found']} of {document['faults']} found, "
              f"false findings: {corrupt} corrupt, {len(document['false']) - corrupt} suspect")  # fmt: skip
        for finding in document["false"]:
            print(f"  false: {finding['severity']} {finding['rule']} {finding['object']}: {finding['message']}")
        for sock, output in document["errors"].items():
            print(f"  no answer for {sock}: {output.splitlines()[0] if output else 'nothing printed'}")


def _cell(outcome: Record) -> str:
    if outcome["outcome"] == FOUND:
        return f"{outcome['rules'][0]}{' (suspect)' if outcome['severity'] == 'suspect' else ''}"
    if outcome["outcome"] == WRONG:
        return f"WRONG {','.join(outcome['rules'])}"
    return MISSED
