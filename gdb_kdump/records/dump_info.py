"""What a dump says of itself: the dump server's first words to its client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """How much of a dump is missing."""

    pages: int
    pages_missing: int
    bytes_missing: int
    fraction_missing: float
    exact: bool
    """False when only a sample of the page descriptors was looked at."""
    incomplete: bool
    """makedumpfile marked the file: it ran out of space."""
    sentence: str
    """For the user; empty when nothing is missing."""
    remedy: str = ""
    """What the user can do about it."""


@dataclass(frozen=True)
class NamedFile:
    """A file of the dump: its path, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class DumpInfo:
    """What the dump is, as its headers and notes say."""

    machine: str
    """The kernel's name of it."""
    format: str
    release: str | None
    max_pfn: int
    cpus: int
    """How many CPUs have left a note."""
    registers: list[dict[str, int]]
    """Of each of these CPUs: the registers that are known, by GDB's names."""
    pids: list[int | None]
    """Of each of these CPUs: the PID that ran there, None where its note does not say."""
    numbers: list[int | None]
    """Of each of these CPUs: its number, where a hypervisor gave it one; None in the kernel's own notes."""
    vmcoreinfo: str | None
    """The raw text."""
    translates: bool
    """Whether virtual addresses can be read: otherwise `use_vmcoreinfo` or `find_kernel` comes first."""
    files: list[NamedFile]
    report: Report

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DumpInfo:
        """The same from what json made of `asdict(info)`."""
        files = [NamedFile(**file) for file in document["files"]]
        return cls(**{**document, "files": files, "report": Report(**document["report"])})
