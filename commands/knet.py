"""knet: network devices, what hangs in the network stack, and neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.hooks import hook_json, hooks_text
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.net.hooks import hooks
from gdb_kdump.records.code import Hook
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Network:
    """What was asked for; None for what was not."""

    hooks: list[Hook] | None = None
    last_unloaded: str = ""
    all: bool = False


class Knet(Command[Network]):
    name = "knet"
    operands = "[DEVICE]"
    summary = """Show the network devices, or with --hooks the functions that the network stack calls.
Those are: hooks of netfilter, BPF programs, filters and kinds of actions, receivers of packets, and protocols, each
with its network namespace (none: of all), its module and the letters by which that taints the kernel: O out of tree,
E unsigned, P proprietary, and others; - for code of no loaded module."""
    options = (
        Option("--hooks", "the functions that the network stack calls, and whose they are"),
        Option("-a", "with --hooks: the kernel's own protocols, too"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Network:
        if len(arguments.operands) > 1:
            raise UsageError("one DEVICE at the most")
        if not arguments.has("--hooks"):
            raise UsageError("knet shows hooks: knet --hooks")
        found = list(hooks(session, gaps))
        return Network(found, session.once(CodeOwners).last_unloaded(), arguments.has("-a"))

    def text(self, result: Network) -> Iterator[str]:
        if result.hooks is not None:
            yield from hooks_text(result.hooks, result.last_unloaded, result.all)

    def json(self, result: Network) -> Any:
        return {"hooks": [hook_json(hook) for hook in walks.shown(result.hooks or ())]}
