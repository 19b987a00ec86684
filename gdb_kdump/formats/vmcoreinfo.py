"""VMCOREINFO: what the kernel notes about itself for readers of its dump; kernel/vmcore_info.c."""

from __future__ import annotations

KNOWN_SYMBOLS = ("_stext", "swapper_pg_dir", "init_uts_ns")
"""Symbols that every VMCOREINFO has some of."""


def parse_vmcoreinfo(text: str) -> dict[str, str]:
    """The KEY=VALUE lines of VMCOREINFO; kernel/crash_core.c: vmcoreinfo_append_str."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def symbol(vmcoreinfo: dict[str, str], name: str) -> int | None:
    """The address of a symbol, where it was when the kernel ran, or None."""
    return _number(vmcoreinfo.get(f"SYMBOL({name})"), 16)


def number(vmcoreinfo: dict[str, str], name: str) -> int | None:
    """The value of a NUMBER, or None."""
    return _number(vmcoreinfo.get(f"NUMBER({name})"), 10)


def offset_of(vmcoreinfo: dict[str, str], linked: dict[str, int]) -> int | None:
    """How far the kernel lies from where it was linked for, in bytes: KERNELOFFSET, or as its symbols have moved.

    None where it has neither. `linked` are the link-time addresses of KNOWN_SYMBOLS in its vmlinux.
    """
    told = _number(vmcoreinfo.get("KERNELOFFSET"), 16)
    if told is not None:
        return told
    moved = (found - linked[name] for name in linked if (found := symbol(vmcoreinfo, name)) is not None)
    return next(moved, None)


def _number(text: str | None, base: int) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:  # damaged
        return None
