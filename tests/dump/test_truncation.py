"""A real dump in seven containers, cut off: gdb opens what is left and says how much is missing.

That every page that is left has the right bytes, at 23 cuts: test_containers.py. Both together, on real dumps:
scripts/bench robustness.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_gdb_fixtures import LabDump
from pytest_gdb_fixtures.process import Gdb
from transcode import CONTAINERS, RawDump, transcode

from gdb_kdump.channel.client import Server
from gdb_kdump.errors import Why
from gdb_kdump.records.runs import Hole

# In 24ths of the file.
CUTS = {"raw": 5, "zlib": 23, "lzo": 12, "snappy": 8, "zstd": 20, "elf": 18, "flattened": 22}


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


@pytest.fixture(scope="module")
def raw(dump: LabDump, tmp_path_factory: pytest.TempPathFactory) -> RawDump:
    path = tmp_path_factory.mktemp("raw") / "vmcore"
    subprocess.run(["makedumpfile", "-d", "0", dump.vmcore, path], check=True, capture_output=True)
    return RawDump(path)


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_left_is_opened(gdb_run: Gdb, tmp_path: Path, dump: LabDump, raw: RawDump, container: str) -> None:
    whole, short = tmp_path / "whole", tmp_path / "short"
    transcode(raw, container, whole)
    data = whole.read_bytes()
    short.write_bytes(data[: len(data) * CUTS[container] // 24])
    run = gdb_run(f"target kdump {short}", "info threads", "kbt", "x/8xg $sp", "print 6 * 7")
    assert "Traceback" not in run.output and "internal-error" not in run.output and "= 42" in run.stdout
    missing = re.search(r"MISSING: the dump is truncated: ([0-9,]+) of ([0-9,]+) pages are missing", run.stdout)
    assert missing, run.output
    lost, pages = (int(number.replace(",", "")) for number in missing.groups())
    assert pages == len(raw.pfns) and 0 < lost < pages
    assert len(re.findall(r"^[* ] +\d+ +Thread ", run.stdout, re.MULTILINE)) >= 2
    assert read(short, raw) == pages - lost


def read(path: Path, raw: RawDump) -> int:
    """How many pages can be read at all; every one has the right bytes, and the others are TRUNCATED."""
    base = 0xFFFF888000000000  # anywhere: page tables would say where, but read nothing that they do not map
    found = 0
    with Server.start(str(path)) as server:
        assert server.use_vmcoreinfo("SYMBOL(init_top_pgt)=ffffffff80000000\nNUMBER(phys_base)=1099511627776\n")
        server.set_direct_map(base)
        for pfn, page in raw.pages():
            (run,) = server.read(base + pfn * len(page), len(page))
            assert run == page or (isinstance(run, Hole) and run.why is Why.TRUNCATED), f"page {pfn:#x}"
            found += isinstance(run, bytes)
    return found
