"""Sourced in gdb by truncation.py: reads pages on the road that GDB's own commands take."""

import hashlib
import json
from pathlib import Path

import gdb

from gdb_kdump.session import current

PAGE = 4096


def read_pages(asked: str, answer: str) -> None:
    """Write a digest of each page of the addresses in the file `asked`, or why GDB cannot read it, to `answer`."""
    found = []
    for addr in json.loads(Path(asked).read_text()):
        try:
            data = gdb.selected_inferior().read_memory(addr, PAGE)
            found.append(hashlib.blake2b(data, digest_size=8).hexdigest())
        except gdb.MemoryError:
            why = current().memory.why(addr)
            found.append(why.name if why else "GDB alone cannot read it")
    Path(answer).write_text(json.dumps(found))
