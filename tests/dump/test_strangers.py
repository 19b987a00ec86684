"""Files that are no dumps: each is told what it is, with the command that helps."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shlex
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import page_compression
import pytest
from pytest_gdb_fixtures import Gdb, LabDump

from gdb_kdump.dump.preflight import examine
from gdb_kdump.errors import DumpError

CONTENT = b"KDUMP   " + bytes(range(256)) * 64


def of_tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("vmcore")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def of_zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("vmcore", content)
    return stream.getvalue()


def at_end_of_page(mark: bytes) -> bytes:
    return bytes(4086) + mark + bytes(8192)


# By what a file is: its bytes, and what the sentence must name.
FILES: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(CONTENT), "`gunzip`"),
    "xz": (lzma.compress(CONTENT), "`unxz`"),
    "bzip2": (bz2.compress(CONTENT), "`bunzip2`"),
    "zstd": (page_compression.compress(CONTENT[:4096], "zstd")[0], "`unzstd`"),
    "lz4": (b"\x04\x22\x4d\x18" + CONTENT, "`unlz4`"),
    "lz4-legacy": (b"\x02\x21\x4c\x18" + CONTENT, "`unlz4`"),
    "lzop": (b"\x89LZO\0\r\n\x1a\n" + CONTENT, "`lzop -d`"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + CONTENT, "`7z x`"),
    "zip": (of_zip(CONTENT), "`unzip`"),
    "tar": (of_tar(CONTENT), "`tar xf`"),
    "migration": (b"QEVM\0\0\0\3" + CONTENT, "virsh dump --memory-only"),
    "virsh-save": (b"LibvirtQemudSave" + CONTENT, "virsh dump --memory-only"),
    "vmss": (b"\xd2\xbe\xd2\xbe" + CONTENT, "vmss2core"),
    "windows": (b"PAGEDU64" + CONTENT, "WinDbg"),
    "minidump": (b"MDMP" + CONTENT, "WinDbg"),
    "qcow2": (b"QFI\xfb\0\0\0\3" + CONTENT, "qcow2"),
    "vmdk": (b"KDMV" + CONTENT, "vmdk"),
    "vdi": (b"<<< QEMU VM Virtual Disk Image >>>".ljust(64, b"\0") + b"\x7f\x10\xda\xbe" + CONTENT, "vdi"),
    "vhd": (b"conectix" + CONTENT, "vhd"),
    "deb": (b"!<arch>\ndebian-binary   " + CONTENT, "`dpkg -x`"),
    "rpm": (b"\xed\xab\xee\xdb\3\0" + CONTENT, "`rpm2cpio`"),
    "hibernated": (at_end_of_page(b"S1SUSPEND\0"), "hibernate"),
    "swap": (at_end_of_page(b"SWAPSPACE2"), "is swap space"),
    "sadump": (b"sadump\0\0" + CONTENT, "makedumpfile -x"),
    "unknown": (b"\1\2\3\0" + CONTENT, "no kernel dump of a known form"),
}


@pytest.mark.parametrize("kind", FILES)
def test_each_is_told_what_it_is(kind: str, tmp_path: Path) -> None:
    content, words = FILES[kind]
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    with pytest.raises(DumpError) as told:
        examine([str(path)])
    sentence = str(told.value)
    assert sentence.startswith(f"{path} is ") and words in sentence and "\n" not in sentence and "None" not in sentence


def test_what_mkswap_writes(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    path.write_bytes(bytes(1 << 20))
    path.chmod(0o600)
    subprocess.run(["/sbin/mkswap", str(path)], check=True, capture_output=True)
    with pytest.raises(DumpError, match="is swap space"):
        examine([str(path)])


def test_what_qemu_migrates(tmp_path: Path) -> None:
    path = tmp_path / "state"
    qemu = ["qemu-system-x86_64", "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults", "-S", "-qmp", "stdio"]
    migrate = {"execute": "migrate", "arguments": {"uri": f"exec:cat > {shlex.quote(str(path))}"}}
    words = '{"execute":"qmp_capabilities"}' + json.dumps(migrate)
    with subprocess.Popen(qemu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as guest:
        assert guest.stdin and guest.stdout
        try:
            guest.stdin.write(words)
            guest.stdin.flush()
            deadline = time.monotonic() + 60
            while not (path.exists() and path.stat().st_size > 4096):
                assert guest.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            guest.kill()
    with pytest.raises(DumpError, match="saved state of QEMU.*virsh dump --memory-only"):
        examine([str(path)])


def test_vmlinux_and_vmcore_in_either_order(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump("6.1-healthy")
    vmlinux = gdb_run("kinfo --json", vmcore=dump.vmcore).succeeded().json()["vmlinux"]
    run = gdb_run(
        f"target kdump {vmlinux} {dump.vmcore}", "kinfo --json", f"target kdump {dump.vmcore} {vmlinux}",
        "kinfo --json",
    ).succeeded()  # fmt: skip
    first, second = run.documents
    assert first == second and first["vmlinux"] == vmlinux
    for words in (f"{vmlinux} {vmlinux}", f"{vmlinux}"):
        assert "not a dump" in gdb_run(f"target kdump {words}").stderr
