"""kwhat's answers for addresses of every kind, beside drgn's identify_address and what the guest's log says of each."""

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tools import DRGN, ROOT, Dump, Program, drgn_python, gdb_command, gdb_version, run

DUMPS = ["6.1-healthy", "6.12-healthy", "6.12rt-healthy", "6.1-queues", "6.12-queues", "6.12rt-queues"]
MOST = 500  # addresses of each kind that there are any number of
_SHOWN = 20


def measure(dump: Dump, name: str, seed: int = 1) -> dict[str, Any]:
    """Compares one dump and prints a table, and where the two disagree."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        picked, addresses, answers = (Path(folder, file) for file in ("picked", "addresses", "answers"))
        command = (drgn_python(), ROOT / "scripts/benchmarks/what_in_drgn.py", dump.vmcore, dump.vmlinux,
                   dump.vmcore.with_suffix(".truth.json"), picked, str(MOST), str(seed))  # fmt: skip
        subprocess.run(command, check=True)
        document = json.loads(picked.read_text())
        addresses.write_text("".join(f"{row['addr']:#x}\n" for row in document["rows"]))
        call = f"measure_what({str(addresses)!r}, {str(answers)!r})"
        figures = run(Program("kwhat", gdb_version(), gdb_command(dump, call)))
        said = json.loads(answers.read_text())
    failures = [
        f"{row['addr']:#x} ({row['kind']}): {reason}; kwhat says: {what['text']}"
        for row, what in zip(document["rows"], said, strict=True)
        for reason in disagreements(row, what)
    ]
    _show(name, document["rows"], failures, figures, document["seconds"])
    return {"dump": name, "addresses": len(said), "figures": figures, "drgn": document["seconds"], "failures": failures}


def _show(name: str, rows: list[Any], failures: list[str], figures: dict[str, float], drgn_took: float) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(row["kind"] for row in rows).items())
    named = sum(bool(row["drgn"]) for row in rows)
    print(f"\nwhat {name}: {len(rows)} addresses ({kinds})")
    print(f"  drgn {DRGN} names {named} of them, the guest's log or the pointer's type "
          f"{sum(bool(row['links']) for row in rows)}; kwhat disagrees on {len(failures)}")  # fmt: skip
    each, of_drgn = figures["processor"] / figures["addresses"], drgn_took / len(rows)
    print(f"  processor's time: {figures['cold_processor']:.2f} s for the first, {each * 1000:.2f} ms for each further "
          f"one (drgn: {of_drgn * 1000:.2f} ms); gdb grows by {figures['growth'] / 1e6:.0f} MB")  # fmt: skip
    for failure in failures[:_SHOWN]:
        print(f"  {failure}")


def disagreements(row: Any, what: Any) -> list[str]:
    """Where kwhat does not say what is known of an address."""
    reasons = [reason for said in row["drgn"] for reason in _of_drgn(said, what)]
    chains, (itself, *owners) = _steps(what), row["links"] or [()]
    texts = "".join(link["text"] + link["relation"] + " " for chain in what["owners"] for link in chain)
    # Where there are more ways than kwhat names, these may be among them.
    expected = [itself] * bool(itself) + owners * (not what["more"])
    reasons += [f"no {tag} {addr:#x} among the owners" for tag, addr in expected if (tag, addr) not in chains]
    reasons += [f"no {words!r}" for words in row.get("words", ()) if words not in texts and not what["more"]]
    if "cpu" in row and row["names"]:
        text, (link, *_) = what["text"], what["memory"]
        if what["kind"] != "per-CPU" or f"of CPU {row['cpu']}" not in text:
            reasons.append(f"not of CPU {row['cpu']}")
        elif not any(f"variable {name}" in link["text"] for name in row["names"]):
            reasons.append(f"not of {' or '.join(row['names'])}")
    if "module" in row and f"module {row['module']}" not in what["text"] + what["memory"][-1]["text"]:
        reasons.append(f"not in module {row['module']}")
    if "pfn" in row:
        reasons += _of_page(row, what)
    return reasons


def _steps(what: Any) -> set[tuple[str, int]]:
    """Every step of every chain of owners."""
    return {(link["what"], int(link["address"], 16)) for chain in what["owners"] for link in chain}


def _of_page(row: Any, what: Any) -> list[str]:
    text = what["text"]
    reasons = [] if f"page frame {row['pfn']:#x} " in text else [f"not page frame {row['pfn']:#x}"]
    named = text.partition(", flags ")[2].partition(" of ")[0].partition(";")[0].partition(",")[0].split()
    return reasons + [f"without the flag {flag}" for flag in row["flags"] if flag not in named]


def _of_drgn(said: Any, what: Any) -> list[str]:
    """Where kwhat does not say what drgn says of an address."""
    kind, memory = what["kind"], what["memory"]
    first, tags = memory[0], _steps(what)
    agrees: dict[str, Callable[[], bool]] = {
        "IdentifiedTaskStruct": lambda: ("task_struct", said["task"]) in tags,
        "IdentifiedTaskStack": lambda: kind == "stack" and ("task_struct", said["task"]) in tags,
        "IdentifiedSlabObject": lambda: _same_object(said, first),
        "IdentifiedVmap": lambda: kind in ("module", "generated code", "stack", "per-CPU") or _same_area(said, memory),
        "IdentifiedPage": lambda: kind == "struct page" and int(first["address"], 16) == said["page"],
        "IdentifiedSymbol": lambda: (
            said["is_label"] or kind == "stack" or any(_same_symbol(name, first) for name in said["names"])
        ),
    }
    return [] if said["type"] == "fault" or agrees[said["type"]]() else [f"drgn says {said['words']}"]


def _same_object(said: Any, link: Any) -> bool:
    if not said["is_one"]:
        return bool(link["what"] == "slab")
    if link["what"] != "slab object" or int(link["address"], 16) != said["start"]:
        return False
    state = {True: "allocated", False: "free", None: "unknown"}[said["allocated"]]
    names = link["text"].partition(" of ")[2]
    return (
        link["text"].startswith(state)
        and said["cache"] in names.replace("(and ", "").replace(")", "").replace(",", "").split()
    )


def _same_area(said: Any, memory: list[Any]) -> bool:
    words = " ".join(link["text"] for link in memory)
    return f"area {said['start']:#x}-{said['end']:#x}" in words and said["caller"] in words


def _same_symbol(name: str, link: Any) -> bool:
    symbol, _, offset = name.rpartition("+")
    words = link["text"].partition("+")[0].partition(" (its .cold")[0]
    return link["offset"] == int(offset, 16) and words in (symbol, symbol.partition(".cold")[0])
