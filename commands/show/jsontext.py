"""JSON documents as text, a piece at a time: Python's own encoder is deaf to Ctrl-C until it has done all of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gdb_kdump import walks

_AT_ONCE = 256  # elements of a list
_DEPTH = 4  # as deep as our documents have their long lists


def json_pieces(document: Any, depth: int = _DEPTH) -> Iterator[str]:
    """The text that json.dumps makes of a document, in pieces; after Ctrl-C, of long lists what there is time for."""
    if isinstance(document, list) and document and depth:
        yield "["
        if len(document) > _AT_ONCE:
            for start in walks.shown(range(0, len(document), _AT_ONCE)):
                yield (", " if start else "") + json.dumps(document[start : start + _AT_ONCE])[1:-1]
        else:
            for index, element in enumerate(document):
                yield ", " if index else ""
                yield from json_pieces(element, depth - 1)
        yield "]"
    elif isinstance(document, dict) and document and depth:
        for index, (key, value) in enumerate(document.items()):
            yield f"{', ' if index else '{'}{json.dumps(key)}: "
            yield from json_pieces(value, depth - 1)
        yield "}"
    else:
        yield json.dumps(document)
