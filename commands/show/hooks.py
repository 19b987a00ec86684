"""Functions of the network stack, as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gdb_kdump.commands.show.tables import table
from gdb_kdump.records.code import Code, Hook, Place
from gdb_kdump.text import hex16

_PROTOCOLS = ("protocol", "offload", "family", "proto", "action")


def hooks_text(hooks: Sequence[Hook], last_unloaded: str, also_own: bool) -> Iterator[str]:
    """The lines of a table, of the kernel's own protocols only with `also_own`."""
    own = [hook for hook in hooks if hook.kind in _PROTOCOLS and hook.code.place is Place.KERNEL]
    shown = hooks if also_own else [hook for hook in hooks if hook not in own]
    rows = (
        (
            hook.kind, hook.where, hook.device, _netns(hook), hook.priority, taint(hook.code), hook.code.module,
            hook.code.symbol or hex16(hook.code.addr), hook.detail,
        )
        for hook in shown
    )  # fmt: skip
    headers = ("KIND", "WHERE", "DEVICE", "NETNS", "PRIO", "TAINT", "MODULE", "FUNCTION", "")
    yield from table(headers, rows, right=("PRIO",))
    if own and not also_own:
        yield f"and {len(own)} protocols of the kernel's own (-a)"
    if any(hook.code.place is Place.NOWHERE for hook in shown):
        yield f"-: in no loaded module; the last one that was unloaded: {last_unloaded or 'none'}"


def taint(code: Code) -> str:
    """The letters of a function's module; - where no loaded module has it."""
    return "-" if code.place is Place.NOWHERE else code.taint


def hook_json(hook: Hook) -> dict[str, Any]:
    """A hook as a JSON object."""
    return {
        "kind": hook.kind,
        "where": hook.where,
        "hook": hex16(hook.addr),
        "net": hex16(hook.net) if hook.net else None,
        "netns": hook.netns,
        "device": hook.device,
        "priority": hook.priority,
        **code_json(hook.code),
        "detail": hook.detail or None,
    }


def code_json(code: Code) -> dict[str, Any]:
    """A function as a JSON object."""
    return {
        "address": hex16(code.addr),
        "function": code.symbol or None,
        "place": code.place.value,
        "module": code.module,
        "taint": code.taint,
    }


def code_text(code: Code) -> str:
    """A function with its module, and the letters by which that taints the kernel."""
    name = code.symbol or hex16(code.addr)
    if code.module is None:
        return name if code.place is not Place.NOWHERE else f"{name} (in no loaded module)"
    return f"{name} [{code.module}]" + (f" ({code.taint})" if code.taint else "")


def _netns(hook: Hook) -> str:
    if hook.netns is not None:
        return str(hook.netns)
    return hex16(hook.net) if hook.net else ""
