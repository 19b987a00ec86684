"""libkdumpfile's newer Python binding, pykdumpfile (cffi); the older one is what every other test runs with.

Debian 12 has no package of it: $GDB_KDUMP_CFFI_PYTHON names a Python that has it, as `scripts/other-gdb sid` makes one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import kdumpfile_writer as writer
import pytest
from test_containers import CONTAINERS, check_every_page

from gdb_kdump.channel.client import Server
from gdb_kdump.errors import Why
from gdb_kdump.memory import Memory


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    name = os.environ.get("GDB_KDUMP_CFFI_PYTHON", "")
    if not name:
        pytest.skip("no Python with pykdumpfile: $GDB_KDUMP_CFFI_PYTHON is not set")
    subprocess.run([name, "-I", "-c", "import kdumpfile; kdumpfile.Context"], check=True)
    monkeypatch.setenv("KDUMP_PYTHON", name)
    return name


@pytest.mark.parametrize("container", ["raw-4", "zlib-6", "lzo-6", "snappy-6", "zstd-6", "elf", "split",
                                       "flattened-zstd", "flattened-elf"])  # fmt: skip
def test_the_newer_binding(python: str, container: str, tmp_path: Path) -> None:
    kernel = writer.small_kernel()
    kernel.excluded = {0x105}
    paths = CONTAINERS[container](tmp_path / "vmcore", kernel)
    with Server.start(*map(str, paths)) as server:
        info = server.info()
        assert info.vmcoreinfo == kernel.vmcoreinfo and info.release == kernel.release and info.cpus == 2
        assert info.registers[1]["rip"] == kernel.registers[1]["rip"]
        memory = Memory(server)
        assert check_every_page(memory, kernel) == 0
        assert memory.why(writer.VMALLOC + 16 * writer.PAGE) is Why.UNMAPPED
