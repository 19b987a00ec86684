"""The base of every command: parse, run, show as text or JSON, and turn a KdumpError into one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import gdb

from gdb_kdump import session, walks
from gdb_kdump.commands.arguments import Arguments, Option, parse
from gdb_kdump.commands.show.jsontext import json_pieces
from gdb_kdump.commands.show.status import Status, set_status
from gdb_kdump.commands.show.styles import Line, shown
from gdb_kdump.debuginfo.gdb_settings import for_names
from gdb_kdump.errors import DumpError, Interrupted, KdumpError, Why
from gdb_kdump.kernel.mm.left_out import LeftOut
from gdb_kdump.kernel.module.symbols import ModuleSymbols
from gdb_kdump.session import Session
from gdb_kdump.text import escape
from gdb_kdump.walks import Gaps

R = TypeVar("R")

JSON = Option("--json", "print one JSON document")


class Command(gdb.Command, Generic[R]):
    """A command that reads a result from the open dump and shows it.

    A subclass says `name`, `operands` (for the Usage line), `summary`, `options`, and has three methods:

        read(session, arguments, gaps)   reads and judges: the result; notes in `gaps` why there may be more
        text(result)                     the lines for people, but for the gaps; closing(result) the lines below those
        json(result)                     the JSON document, but for the gaps

    Only this class prints, the gaps too: in text a line each with `gap_words` before it, in JSON what gaps_json() says.
    What there can be much of goes through walks.shown(): after Ctrl-C there is little time for it.
    """

    name: ClassVar[str]
    operands: ClassVar[str] = ""
    summary: ClassVar[str]
    options: ClassVar[Sequence[Option]] = ()
    completer: ClassVar[int] = gdb.COMPLETE_EXPRESSION
    gap_words: ClassVar[str] = "there may be more"
    registered: ClassVar[dict[str, Command[Any]]] = {}

    def __init__(self) -> None:
        self._all_options = (*self.options, JSON)
        self.__doc__ = self._help()
        super().__init__(self.name, gdb.COMMAND_DATA)
        self.registered[self.name] = self

    def _help(self) -> str:
        shown = [f"[{o.name} {o.metavar}]" if o.metavar else f"[{o.name}]" for o in self._all_options]
        usage = " ".join(["Usage:", self.name, *shown, *([self.operands] if self.operands else [])])
        width = max(len(o.name) + len(o.metavar or "") for o in self._all_options) + 3
        rows = [f"  {f'{o.name} {o.metavar or str()}'.strip():{width}}{o.help}" for o in self._all_options]
        first, _, rest = self.summary.partition("\n")
        return "\n".join([first, usage, "", *rows, *(["", rest.strip()] if rest.strip() else [])])

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Run the command as GDB asks for it; raises gdb.GdbError with one sentence, also after a partial result."""
        set_status(Status.ERROR)  # until it has come to something better
        with walks.StoppableCommand() as running:
            try:
                with for_names():
                    self._run(parse(argument, self._all_options), running)
            except KdumpError as error:
                set_status(Status.ERROR)
                raise gdb.GdbError(escape(f"{self.name}: {error}")) from None
            except KeyboardInterrupt:
                walks.interrupt()
                raise
            finally:
                if running.is_interrupted:
                    _forget_parts()
                show_notices()

    def _run(self, arguments: Arguments, running: walks.StoppableCommand) -> None:
        gaps = Gaps()
        result = self._result(arguments, gaps)
        set_status(Status.FINE)
        self.note(result)
        show = self._json if arguments.has(JSON.name) else self._text
        for piece in show(result, gaps, running):
            _write(piece)
        if running.is_interrupted:
            raise Interrupted

    def document(self, argument: str = "") -> Any:
        """The JSON document for another command, which puts several together; raises KdumpError."""
        gaps = Gaps()
        document = self.json(self._result(parse(argument, self._all_options), gaps))
        return document | self.gaps_json(list(gaps)) if isinstance(document, dict) else document

    def _result(self, arguments: Arguments, gaps: Gaps) -> R:
        try:
            return self.read(session.current(), arguments, gaps)
        except KeyboardInterrupt:  # where there is no part to show
            walks.interrupt()
            raise Interrupted(nothing=True) from None

    def _text(self, result: R, gaps: Gaps, running: walks.StoppableCommand) -> Iterator[str]:
        yield from _lines(self.text(result))
        yield from _lines(f"{self.gap_words}: {sentence}" for sentence in told(session.find_current(), gaps))
        yield from _lines(self.closing(result))

    def _json(self, result: R, gaps: Gaps, running: walks.StoppableCommand) -> Iterator[str]:
        try:
            document = self.json(result)
        except KeyboardInterrupt:
            walks.interrupt()
            document = self.json(result)  # again, now as much as there is time for
        if isinstance(document, dict):
            document |= self.gaps_json(list(gaps))
        running.restart_the_clock()
        piece = ""
        for following in json_pieces(document):
            yield piece
            piece = following
        if running.is_interrupted and isinstance(document, dict):
            yield ', "interrupted": true'
        yield f"{piece}\n"

    def complete(self, text: str, word: str | None) -> Any:
        """Complete an option, or what the command completes; without a word GDB asks only which kind of completion."""
        last = text.split()[-1] if text and not text[-1].isspace() else ""
        if last.startswith("-"):
            # GDB breaks words at dashes: offer what follows the last one.
            return [o.name[len(last) - len(word or "") :] for o in self._all_options if o.name.startswith(last)]
        return self.completer

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> R:
        """Compute the result; raises KdumpError."""
        raise NotImplementedError

    def note(self, result: R) -> None:
        """Leave what scripts want in convenience variables."""

    def text(self, result: R) -> Iterator[Line]:
        """The lines for people, above those of the gaps."""
        raise NotImplementedError

    def closing(self, result: R) -> Iterator[Line]:
        """The lines for people below those of the gaps."""
        return iter(())

    def json(self, result: R) -> Any:
        """The JSON document; where that is a dict, the gaps are added to it."""
        raise NotImplementedError

    def gaps_json(self, gaps: list[str]) -> dict[str, Any]:
        """What the JSON document says of the gaps."""
        return {"problems": gaps}


def _lines(lines: Iterable[Line]) -> Iterator[str]:
    try:
        for line in lines:
            # The last line of defence: what comes from a dump must not rule a terminal.
            yield shown(line) + "\n"
    except KeyboardInterrupt:
        walks.interrupt()


def told(opened: Session | None, gaps: Iterable[str]) -> list[str]:
    """The gaps as people are told them: those of one cause that is known already, as one sentence without addresses."""
    sentences = list(gaps)
    filtered = [sentence for sentence in sentences if f"({Why.FILTERED.name})" in sentence]
    if opened is None or not filtered or opened.once(LeftOut).find() is None:
        return sentences
    rest = [sentence for sentence in sentences if sentence not in filtered]
    places = "one place lies" if len(filtered) == 1 else f"{len(filtered)} places lie"
    return [*rest, f"{places} in pages that makedumpfile left out (as was said; --json names them)"]


def show_notices() -> None:
    """Warn of what has been found out of the dump beside the way, each once."""
    for notice in (*session.take_notices(), *_slabs_left_out()):
        gdb.write(escape(f"warning: {notice}") + "\n", gdb.STDERR)


def _slabs_left_out() -> list[str]:
    opened = session.find_current()
    try:
        notice = opened.once(LeftOut).take_notice() if opened is not None else None
    except DumpError:  # the server has gone, and the next command says it
        return []
    return [] if notice is None else [notice]


def _write(text: str) -> None:
    try:
        gdb.write(text)
    except KeyboardInterrupt:
        if gdb.parameter("height"):  # it was perhaps q at GDB's pager
            raise
        walks.interrupt()


def _forget_parts() -> None:
    """Have no later command take what an interrupted one has read for the whole."""
    opened = session.find_current()
    if opened is not None:
        opened.forget_walks(ModuleSymbols, LeftOut)  # GDB has the symbols, and the user was told
