"""A Python function's body, run inside gdb."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytest_gdb_fixtures.lab import ROOT
from pytest_gdb_fixtures.process import Gdb

_RESULT = "@@result "

_SCRIPT = """\
from __future__ import annotations
import json, sys
sys.path.insert(0, {root!r})
{source}
print({mark!r} + json.dumps({name}(*json.loads({arguments!r}))))
"""


def call(
    gdb: Gdb,
    body: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    elf: Path | None = None,
    vmcore: Path | None = None,
    **options: Any,
) -> Any:
    """Run `body(*arguments)` in a gdb that has `elf` loaded, or `vmcore` opened with the plugin; returns its result."""
    source = textwrap.dedent(inspect.getsource(body))
    script = gdb._folder / f"{body.__name__}.py"
    script.write_text(
        _SCRIPT.format(
            root=str(ROOT), source=source, mark=_RESULT, name=body.__name__, arguments=json.dumps(list(arguments))
        )
    )
    commands = [f"file {elf}"] if elf is not None else []
    run = gdb(*commands, f"source {script}", vmcore=vmcore, script=True, **{"plugin": vmcore is not None, **options})
    result = next((line for line in run.stdout.splitlines() if line.startswith(_RESULT)), None)
    assert run.status == 0 and result is not None, f"{body.__name__} failed inside gdb:\n{run.output}"
    return json.loads(result.removeprefix(_RESULT))
