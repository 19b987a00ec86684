"""ksearch: where in the dump's memory a value, a pointer, a string or a pattern of bytes stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address, number
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.patterns import parse_bytes, parse_text, parse_words
from gdb_kdump.commands.show.progress import SearchProgress
from gdb_kdump.errors import MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.kernel.mm.mappings import Mappings
from gdb_kdump.kernel.search import search
from gdb_kdump.kernel.search_areas import Area, kernel_memory, physical_memory, slabs, stacks
from gdb_kdump.kernel.what.naming import Naming
from gdb_kdump.memory import Memory
from gdb_kdump.records.owners import Kind, What
from gdb_kdump.records.patterns import Pattern, Texts
from gdb_kdump.records.search import Searched, Unread, summary
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16
from gdb_kdump.walks import Gaps

_TOP = 1 << 64
_RANGES_SHOWN = 8  # of what was not searched, of each kind
_PER_LINE = 4  # words of context
_LONGEST_SHOWN = 32  # bytes of a string
_OF_THE_IMAGE = (Kind.SYMBOL, Kind.IMAGE)
_BY_THEIR_OWN = (Kind.STACK, Kind.MODULE, Kind.GENERATED, Kind.VMAP)


@dataclass(frozen=True)
class Hit:
    """Where the pattern stands: by the address that is searched by, by the kernel's, and by others of the same byte."""

    addr: int
    virtual: int
    aliases: tuple[int, ...]
    kind: str
    text: str


@dataclass(frozen=True)
class Found:
    """What a search has found; `context` is how many words are shown before and after each hit."""

    searched: Searched
    pattern: Pattern
    is_physical: bool
    mappings: Mappings | None
    naming: Naming | None
    memory: Memory
    context: int
    is_whole: bool
    gaps: Gaps
    """Of the naming: what is found is there whether or not it has all its names."""

    def hits(self) -> Iterator[Hit]:
        """Each hit with its name."""
        for addr in walks.shown(self.searched.hits):
            yield self._named(addr)

    def _named(self, addr: int) -> Hit:
        virtual, aliases = addr, tuple[int, ...]()
        if self.mappings is not None:
            if self.is_physical:
                virtual = self.mappings.start + addr
            if self.mappings.start <= virtual < self.mappings.end:
                aliases = self.mappings.aliases(virtual - self.mappings.start)
        what = self._what(virtual, aliases)
        words = [what.text] if what is not None else []
        words += [f"(also {', '.join(map(hex16, aliases))})"] if aliases else []
        return Hit(addr, virtual, aliases, what.kind.value if what is not None else "unknown", " ".join(words))

    def _what(self, virtual: int, aliases: tuple[int, ...]) -> What | None:
        """What is there: an address of the direct map does not tell of what has addresses of its own."""
        if self.naming is None:
            return None
        others = [self.naming.of(alias, self.gaps) for alias in aliases]
        what = next((other for other in others if other.kind in _BY_THEIR_OWN), None)
        what = what or self.naming.of(virtual, self.gaps)
        # What the image had at a place may have been freed, and something else be there.
        same = (other for other in others if other.kind is what.kind and what.kind in _OF_THE_IMAGE)
        return next(same, what)

    @property
    def word(self) -> int:
        """Bytes of a word of context."""
        return 8 if isinstance(self.pattern, Texts) else self.pattern.size

    def value(self, hit: Hit) -> str:
        """What stands there, for people; empty where it cannot be read."""
        try:
            if isinstance(self.pattern, Texts):
                data = self.memory.read(hit.virtual, min(self.pattern.longest, _LONGEST_SHOWN))
                return '"' + escape(data) + '"'
            data = self.memory.read(hit.virtual, self.word)
        except Unreadable:
            return ""
        return f"0x{int.from_bytes(data, 'little'):0{2 * self.word}x}"

    def around(self, hit: Hit) -> Iterator[tuple[int, int | None]]:
        """The words before and after a hit, and its own: their addresses, and values as far as they can be read."""
        first = hit.virtual - hit.virtual % self.word
        for addr in range(first - self.context * self.word, first + (self.context + 1) * self.word, self.word):
            data, _ = self.memory.read_prefix(addr, self.word)
            value = int.from_bytes(data, "little") if len(data) == self.word else None
            yield addr - hit.virtual + hit.addr, value


class Ksearch(Command[Found]):
    name = "ksearch"
    operands = "VALUE..."
    summary = """Search the memory of the dump for values, and name what each stands in.
A VALUE is a GDB expression or hex digits without 0x: a word of 8 bytes at a multiple of 8, or as -w, -h, -c, -b say.
Kernel memory is every page that the dump has, each once, by its address in the kernel's map of all memory (the direct
map).  What is mapped elsewhere too, as the image, modules, vmalloc and most stacks are, has that address behind `also`.
With -s or -e those addresses are searched, and what of them is mapped.  A string may go over the end of a page.
What could not be searched is told as ranges: pages that were left out of the dump, or lost."""
    options = (
        Option("-r", "words from START to before END: pointers into an object", "START:END"),
        Option("-m", "bits of the words that do not count", "MASK"),
        Option("-w", "words of 4 bytes"),
        Option("-h", "words of 2 bytes"),
        Option("-c", "VALUEs are strings"),
        Option("-b", "VALUEs are bytes in hex, ? for any half of one"),
        Option("-k", "in kernel memory, as without it"),
        Option("-p", "by physical addresses"),
        Option("-t", "in the stacks of the tasks and CPUs"),
        Option("-l", "in the objects of a slab cache, free ones too", "CACHE"),
        Option("-s", "from this address on", "START"),
        Option("-e", "to before this address", "END"),
        Option("-n", "without the names of what is found, which takes less time"),
        Option("-x", "show so many words before and after", "COUNT"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Found:
        pattern, context = pattern_of(arguments), number(arguments.options.get("-x", "0"), "-x takes a number of words")
        areas = _areas(session, arguments, gaps)
        with SearchProgress(silent=arguments.has("--json")) as progress:
            searched = search(session, pattern, areas, gaps, progress.tell)
        return Found(
            searched=searched,
            pattern=pattern,
            is_physical=arguments.has("-p"),
            mappings=_mappings(session),
            naming=None if arguments.has("-n") else _naming(session),
            gaps=Gaps(),
            memory=session.memory,
            context=context,
            is_whole=searched.complete and not len(gaps),
        )

    def text(self, result: Found) -> Iterator[str]:
        for hit in result.hits():
            yield "  ".join(filter(None, (f"{hex16(hit.addr)}:", result.value(hit), hit.text)))
            if result.context:
                yield from _context_text(result, hit)

    def closing(self, result: Found) -> Iterator[str]:
        searched = result.searched
        yield f"{len(searched.hits)} hits in {searched.searched_bytes:,} bytes"
        yield from _unread_text(searched.unread)

    def json(self, result: Found) -> Any:
        return {
            "hits": [_hit_json(result, hit) for hit in result.hits()],
            "searched_bytes": result.searched.searched_bytes,
            "unread": [
                {"start": hex16(piece.start), "size": piece.size, "why": piece.why} for piece in result.searched.unread
            ],
            "complete": result.is_whole,
        }


def pattern_of(arguments: Arguments) -> Pattern:
    """What is searched for; raises UsageError."""
    size = 4 if arguments.has("-w") else 2 if arguments.has("-h") else 8
    kinds = [name for name in ("-c", "-b", "-w", "-h") if arguments.has(name)]
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)} are not for the same VALUE: choose one")
    for name in ("-m", "-r"):
        if arguments.has(name) and kinds and kinds[0] in ("-c", "-b"):
            raise UsageError(f"{name} is for words, {kinds[0]} for others: choose one" + " (in -b, ? stands for any)")
    if not arguments.operands and not arguments.has("-r"):
        raise UsageError("name what to search for: ksearch VALUE..., or ksearch -r START:END")
    if arguments.has("-c"):
        return parse_text(arguments.operands)
    if arguments.has("-b"):
        return parse_bytes(arguments.operands)
    return parse_words(arguments.operands, arguments.options.get("-r"), arguments.options.get("-m"), size)


def _areas(session: Session, arguments: Arguments, gaps: Gaps) -> Sequence[Area]:
    """Where is searched; raises UsageError."""
    where = [name for name in ("-k", "-p", "-t", "-l") if arguments.has(name)]
    if len(where) > 1:
        raise UsageError(f"{' and '.join(where)} say where to search: choose one")
    bounds = [name for name in ("-s", "-e") if arguments.has(name)]
    if bounds and where and where[0] in ("-t", "-l"):
        raise UsageError(f"{bounds[0]} is for kernel and physical memory, not for {where[0]}")
    start, end = (
        address(arguments.options[name]) if name in bounds else other for name, other in (("-s", 0), ("-e", _TOP))
    )
    if start >= end:
        raise UsageError(f"there is nothing from {start:#x} to before {end:#x}")
    if arguments.has("-t"):
        return stacks(session, gaps)
    if arguments.has("-l"):
        return slabs(session, arguments.options["-l"], gaps)
    if arguments.has("-p"):
        return physical_memory(session, start, end)
    return kernel_memory(session, start, end)


def _mappings(session: Session) -> Mappings | None:
    """Where else pages are mapped; None where the dump has lost where the direct map is."""
    try:
        return session.once(Mappings)
    except Unreadable:
        return None


def _naming(session: Session) -> Naming | None:
    """What names addresses; None where the types are too few for it."""
    try:
        return session.once(Naming)
    except (MissingDebugInfo, Unreadable):
        return None


def _context_text(result: Found, hit: Hit) -> Iterator[str]:
    row: list[str] = []
    digits = 2 * result.word
    for addr, value in result.around(hit):
        if not row:
            row.append(f"    {hex16(addr)}:")
        row.append("?" * digits if value is None else f"{value:0{digits}x}")
        if len(row) > _PER_LINE:
            yield " ".join(row)
            row = []
    if row:
        yield " ".join(row)


def _unread_text(unread: Sequence[Unread]) -> Iterator[str]:
    """What was not searched: for each reason how much, and where."""
    for sentence, pieces in summary(unread):
        yield sentence
        largest = sorted(pieces, key=lambda piece: -piece.size)[:_RANGES_SHOWN]
        for piece in sorted(largest, key=lambda piece: piece.start):
            yield f"    {hex16(piece.start)} to {hex16(piece.start + piece.size)}"
        if len(pieces) > len(largest):
            yield f"    and {len(pieces) - len(largest):,} smaller ones (--json has all)"


def _hit_json(result: Found, hit: Hit) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "address": hex16(hit.addr),
        "kind": hit.kind,
        "text": hit.text,
        "value": result.value(hit),
        "aliases": [hex16(alias) for alias in hit.aliases],
    }
    if result.context:
        shown["context"] = [
            {"address": hex16(addr), "value": None if value is None else f"0x{value:0{2 * result.word}x}"}
            for addr, value in result.around(hit)
        ]
    return shown
