"""The vmlinux that GDB did not find: from debuginfod, if the user wants it, else how it is installed."""

from __future__ import annotations

import re
from pathlib import Path

from gdb_kdump.errors import DumpError
from gdb_kdump.installing import public_server
from gdb_kdump.launcher import debuginfod
from gdb_kdump.launcher.asking import ask, can_ask, megabytes, say


def get(build_id: str, release: str | None, sentence: str, without_asking: bool) -> Path:
    """The vmlinux of a build-id; raises DumpError with `sentence`, which says what is missing, where it is not had."""
    if not re.fullmatch(r"[0-9a-f]{2,128}", build_id):
        raise DumpError(sentence)
    kept = debuginfod.cached(build_id)
    if kept is not None:
        return kept
    urls = debuginfod.servers()
    if not urls:
        public = public_server(release)
        raise DumpError(
            f"{sentence}; or name a debuginfod server, which is then asked for it: export DEBUGINFOD_URLS="
            f"{public or 'URL'}"
        )
    if not without_asking and not can_ask():
        raise DumpError(f"{sentence}; or --debuginfod fetches it from {' '.join(urls)}")
    offer = debuginfod.find_offer(build_id, urls)
    if offer is None:
        raise DumpError(f"{sentence}; no debuginfod server has it: {' '.join(urls)}")
    size = megabytes(offer.size) if offer.size is not None else "size unknown"
    question = f"No vmlinux of {release or 'this kernel'} is here; {offer.server} has it ({size}). Fetch it?"
    if without_asking:
        say(f"fetching the vmlinux of {release or 'this kernel'} from {offer.server} ({size})")
    elif not ask(question):
        raise DumpError(sentence)
    return debuginfod.fetch(build_id, urls)
