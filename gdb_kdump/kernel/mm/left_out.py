"""Slab pages that a dump does not have, though nobody leaves those out on purpose: their own struct pages say it.

46df8e73a4a3 (v6.10) mm: free up PG_slab made a page type of the flag that makedumpfile had known slabs by.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.session import Session

_MOST_SLABS = 200  # that are looked at: each costs a page
_FEW = 3  # pages of zeros are left out by right (makedumpfile -d 1), and a slab may have one


@dataclass(frozen=True)
class SlabsLeftOut:
    """Of `looked_at` slabs from all over memory, `missing` are not in the dump, though their struct pages are."""

    looked_at: int
    missing: int

    @property
    def sentence(self) -> str:
        """For the user: what is missing, why, and what helps the next time."""
        return (
            f"makedumpfile has left slab pages out of this dump, {self.missing} of {self.looked_at} looked at: it is "
            "older than the kernel, and takes some for pages of user space. What stood there is FILTERED. Dump the "
            "next time with one that knows this kernel (1.7.6 since 6.10, 1.7.7 since 6.12), or with -d 23, which "
            "keeps user pages"
        )


class LeftOut:
    """Tells of one session whether slabs were left out: by a sample, and by pages that were asked for in vain."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sample: SlabsLeftOut | None = None
        self._is_told = False

    def find(self) -> SlabsLeftOut | None:
        """How many of a sample are missing, None where they are too few to tell."""
        if self._sample is None:
            self._sample = self._look()
        sample = self._sample
        is_proof = sample.missing > _FEW or (sample.missing and self._was_asked_for())
        return sample if is_proof else None

    def take_notice(self) -> str | None:
        """The sentence for the user, once."""
        slabs = None if self._is_told else self.find()
        self._is_told |= slabs is not None
        return None if slabs is None else slabs.sentence

    def _was_asked_for(self) -> bool:
        try:
            pages = self._session.once(Pages)
            filtered = self._session.memory.known_holes(Why.FILTERED)
            return any(pages.find_slab(addr) is not None for addr in filtered)
        except (MissingDebugInfo, Unreadable):
            return False

    def _look(self) -> SlabsLeftOut:
        looked_at = missing = 0
        try:
            pages = self._session.once(Pages)
            for page in pages.some_slabs(_MOST_SLABS) if pages.slab_is_a_type else ():
                looked_at += 1
                missing += self._session.memory.why(pages.address_of(page)) is Why.FILTERED
        except (MissingDebugInfo, Unreadable):
            pass  # as far as the struct pages are there
        return SlabsLeftOut(looked_at, missing)
