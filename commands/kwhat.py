"""kwhat: what an address is, down to its owners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.tables import pairs
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.what.naming import Naming
from gdb_kdump.records.owners import Link, What, chain_text
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

PHYSICAL = Option("-p", "the addresses are physical ones")


@dataclass(frozen=True)
class Named:
    """What an address is, and why there may be more to it."""

    what: What
    problems: tuple[str, ...]


class Kwhat(Command["list[Named]"]):
    name = "kwhat"
    operands = "ADDRESS..."
    summary = """Name an address: what it is, whose memory that is, and who owns what is there.
Each ADDRESS is a GDB expression, or hex digits without 0x.  An owner is what pointers lead to it from: tasks, their
files, sockets and the sk_buffs on their queues, network devices and namespaces.  Each way there is named; where there
is none, nothing that was walked points to it, and no owner is guessed."""
    options = (PHYSICAL,)

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> list[Named]:
        if not arguments.operands:
            raise UsageError("name an address: kwhat ADDRESS...")
        addresses = [located(session, address(operand), arguments) for operand in arguments.operands]
        naming = session.once(Naming)
        return [_named(naming, addr, gaps) for addr in addresses]

    def text(self, result: list[Named]) -> Iterator[str]:
        for number, named in enumerate(result):
            if number:
                yield ""
            yield from pairs(list(_rows(named.what)))

    def json(self, result: list[Named]) -> Any:
        documents = [what_json(named.what) | {"problems": list(named.problems)} for named in result]
        return documents[0] if len(documents) == 1 else documents


def _named(naming: Naming, addr: int, gaps: Gaps) -> Named:
    own = Gaps()
    what = naming.of(addr, own)
    gaps.note(*own)
    return Named(what, tuple(own))


def located(session: Session, addr: int, arguments: Arguments) -> int:
    """The kernel's address of one that the user gave; raises UsageError for a physical one that it has not."""
    if not arguments.has(PHYSICAL.name):
        return addr
    mapped = session.once(Pages).address_of_physical(addr)
    if mapped is None:
        raise UsageError(f"the machine has no memory at the physical address {addr:#x}")
    return mapped


def _rows(what: What) -> Iterator[tuple[str, str]]:
    yield "ADDRESS", hex16(what.addr)
    yield "KIND", what.kind.value
    yield "MEMORY", chain_text(what.memory)
    if what.physical is not None:
        yield "PHYSICAL", hex16(what.physical)
    if what.aliases:
        yield "ALSO AT", ", ".join(map(hex16, what.aliases))
    for chain in what.owners:
        yield "OWNER", chain_text(chain)
    if what.more:
        yield "OWNER", f"and {what.more} more"
    if what.searched and not what.owners:
        yield "OWNER", "none that was found: nothing that was walked points to it"


def what_json(what: What) -> dict[str, Any]:
    """What an address is, as JSON."""
    return {
        "address": hex16(what.addr),
        "kind": what.kind.value,
        "memory": _chain_json(what.memory),
        "owners": [_chain_json(chain) for chain in what.owners],
        "more": what.more,
        "physical": None if what.physical is None else hex16(what.physical),
        "aliases": [hex16(alias) for alias in what.aliases],
        "text": what.text,
    }


def _chain_json(chain: tuple[Link, ...]) -> list[dict[str, Any]]:
    return [
        {
            "what": link.what,
            "address": hex16(link.addr),
            "offset": link.offset,
            "text": link.text,
            "relation": link.relation.lstrip(" ,"),
        }
        for link in chain
    ]
