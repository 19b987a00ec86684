"""A vmlinux in any form and place shows the same session as the plain one, or is refused in one right sentence."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import bare, el6
from pytest_gdb_fixtures import Gdb, LabDump

RELEASE = "2.6.32-bare"
COMMANDS = ("kinfo --json", "kbt --json", "kps --json", "print init_task.comm", "backtrace")


def objcopy(*options: str, vmlinux: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["objcopy", *options, vmlinux, to], check=True)
    return to


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> bare.Case:
    return bare.make(tmp_path_factory.mktemp("bare"), named=(*bare.NAMED, "BUILD-ID"))


@pytest.fixture(scope="module")
def plain(case: bare.Case, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return session(Gdb(tmp_path_factory.mktemp("plain")), case, case.vmlinux)


def session(gdb: Gdb, case: bare.Case, vmlinux: Path | None, **options: Any) -> list[Any]:
    """What the commands show, without the name of the vmlinux."""
    shown = gdb(*COMMANDS, vmcore=case.vmcore, vmlinux=vmlinux, **options).succeeded()
    documents = [{key: value for key, value in document.items() if key != "vmlinux"} for document in shown.documents]
    assert len(documents) == 3 and [frame["function"] for frame in documents[1]["tasks"][0]["frames"]]
    return [*documents, shown.stdout[shown.stdout.rindex("$1 = ") :]]


def without_contents(path: Path, section: str) -> None:
    """Make a section one of SHT_NOBITS, as eu-strip does with what it leaves in the other file."""
    data = bytearray(path.read_bytes())
    for header in headers(data):
        if name_of(data, header) == section:
            struct.pack_into("<I", data, header + 4, 8)
    path.write_bytes(data)


def headers(data: bytes | bytearray) -> range:
    (table,), (count,) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<H", data, 0x3C)
    return range(table, table + 64 * count, 64)


def name_of(data: bytes | bytearray, header: int) -> str:
    (number,) = struct.unpack_from("<H", data, 0x3E)
    (names,) = struct.unpack_from("<Q", data, headers(data)[number] + 0x18)
    start = names + struct.unpack_from("<I", data, header)[0]
    return data[start : data.index(b"\0", start)].decode()


def split(vmlinux: Path, folder: Path, *, link: str = "vmlinux.debug", strip: str = "--strip-debug") -> Path:
    debug = objcopy("--only-keep-debug", vmlinux=vmlinux, to=folder / link)
    main = objcopy(strip, vmlinux=vmlinux, to=folder / "vmlinux")
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", main], check=True)
    return main


def in_a_debug_folder(vmlinux: Path, folder: Path) -> Path:
    main = split(vmlinux, folder)
    (folder / ".debug").mkdir()
    (folder / "vmlinux.debug").rename(folder / ".debug" / "vmlinux.debug")
    return main


def named_otherwise(vmlinux: Path, folder: Path) -> Path:
    """As `eu-strip -g -f` does it, and where GDB alone would not look: by build-id below a folder that was named."""
    main = split(vmlinux, folder)
    debug = folder / "tree" / "vmlinux"
    debug.parent.mkdir()
    (folder / "vmlinux.debug").rename(debug)
    without_contents(debug, ".symtab")
    without_contents(debug, ".strtab")
    return main


def only_debug(vmlinux: Path, folder: Path) -> Path:
    split(vmlinux, folder)
    return folder / "vmlinux.debug"


def no_symbols(vmlinux: Path, folder: Path) -> Path:
    """The debug file is the one that is named, and has no symbols: they are in the file that it was taken from."""
    split(vmlinux, folder)
    without_contents(folder / "vmlinux.debug", ".symtab")
    return folder / "vmlinux.debug"


def compressed(how: str) -> Callable[[Path, Path], Path]:
    return lambda vmlinux, folder: objcopy(f"--compress-debug-sections={how}", vmlinux=vmlinux, to=folder / "vmlinux")


def lto(vmlinux: Path, folder: Path) -> Path:
    """Statics of C that a compiler has made global symbols of, or variants."""
    names = {"init_task": "init_task.llvm.1234567", "swapper_pg_dir": "swapper_pg_dir.lto_priv.0",
             "skb_release_data": "skb_release_data.llvm.89", "kfree_skb": "kfree_skb.isra.0.constprop.1"}  # fmt: skip
    options = [f"--redefine-sym={name}={other}" for name, other in names.items()]
    return objcopy(*options, vmlinux=vmlinux, to=folder / "vmlinux")


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "debuglink": split,
    "debuglink to .debug": in_a_debug_folder,
    "symbols in the other file": lambda vmlinux, folder: split(vmlinux, folder, strip="--strip-all"),
    "symbols here, the rest elsewhere": named_otherwise,
    "the debug file alone": only_debug,
    "the debug file without symbols": no_symbols,
    "zlib": compressed("zlib"),
    "zlib-gnu": compressed("zlib-gnu"),
    "zstd": compressed("zstd"),
    "LTO": lto,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_in_every_form(gdb_run: Gdb, tmp_path: Path, case: bare.Case, plain: list[Any], form: str) -> None:
    vmlinux = FORMS[form](case.vmlinux, tmp_path)
    env = {"KDUMP_VMLINUX_PATH": str(tmp_path / "tree")}
    assert session(gdb_run, case, vmlinux, env=env) == plain


def test_a_vmlinux_in_two_files_is_opened_again(gdb_run: Gdb, tmp_path: Path, case: bare.Case) -> None:
    vmlinux = named_otherwise(case.vmlinux, tmp_path)
    again = (f"target kdump {case.vmcore} {vmlinux}", *COMMANDS)
    env = {"KDUMP_VMLINUX_PATH": str(tmp_path / "tree")}
    run = gdb_run(*COMMANDS, *again, vmcore=case.vmcore, vmlinux=vmlinux, env=env).succeeded()
    assert run.documents[:3] == run.documents[3:]


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
    ".bz2": bz2.compress,
    ".zst": lambda data: subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout,
}


@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_vmlinux_is_unpacked_once(
    gdb_run: Gdb, tmp_path: Path, case: bare.Case, plain: list[Any], suffix: str
) -> None:
    packed = tmp_path / f"vmlinux-{RELEASE}{suffix}"
    packed.write_bytes(PACKED[suffix](case.vmlinux.read_bytes()))
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "KDUMP_VMLINUX_PATH": str(tmp_path)}
    shutil.copy(case.vmcore, tmp_path / "vmcore")
    for vmlinux, is_told in ((packed, True), (None, False)):
        run = gdb_run("kinfo --json", vmcore=tmp_path / "vmcore", vmlinux=vmlinux, env=env).succeeded()
        copy = Path(run.json()["vmlinux"])
        assert copy.parent == tmp_path / "cache" / "gdb-kdump" / "vmlinux"
        assert copy.read_bytes() == case.vmlinux.read_bytes()
        assert (f"Unpacking {packed}, once ...\n0 MB in {copy.parent}\n" in run.stdout) == is_told
    assert session(gdb_run, case, packed, env=env) == plain


PLACES = (
    "vmlinux", "vmlinux.debug", "vmlinux-{R}", "vmlinux-{R}.debug", "boot/vmlinux-{R}", "{R}/vmlinux",
    "lib/modules/{R}/vmlinux", "lib/modules/{R}/build/vmlinux", "usr/lib/modules/{R}/vmlinux.debug",
    "usr/lib/debug/boot/vmlinux-{R}", "usr/lib/debug/boot/vmlinux-{R}.debug", "usr/lib/debug/lib/modules/{R}/vmlinux",
    "usr/lib/debug/usr/lib/modules/{R}/vmlinux", ".build-id/{B}.debug", "usr/lib/debug/.build-id/{B}",
)  # fmt: skip


@pytest.mark.parametrize("named", ["$KDUMP_VMLINUX_PATH", "debug-file-directory", "the folder of the dump"])
def test_the_same_in_every_place(gdb_run: Gdb, tmp_path: Path, case: bare.Case, named: str) -> None:
    """Each folder that is named is searched as /usr/lib/debug is; one gdb opens the dump from each place."""
    build_id = build_id_of(case.vmlinux)
    alone = tmp_path / "dump" / "vmcore"
    alone.parent.mkdir()
    os.link(case.vmcore, alone)
    commands, places = [], []
    for number, place in enumerate(PLACES):
        folder = tmp_path / f"tree {number}"
        path = folder / place.format(R=RELEASE, B=f"{build_id[:2]}/{build_id[2:]}")
        path.parent.mkdir(parents=True)
        os.link(case.vmlinux, path)
        os.link(case.vmcore, folder / "vmcore")
        places.append(str(path))
        searched = f"/nowhere:{folder}"
        commands += [
            "symbol-file",  # the file that GDB has would be the first
            f"set debug-file-directory {searched if named == 'debug-file-directory' else '/nowhere'}",
            f"python import os; os.environ['KDUMP_VMLINUX_PATH'] = {searched if named[0] == '$' else ''!r}",
            f"target kdump '{folder / 'vmcore' if named == 'the folder of the dump' else alone}'",
            "kinfo --json",
        ]
    run = gdb_run(*commands)
    assert [document["vmlinux"] for document in run.documents] == places, run.output


def build_id_of(path: Path) -> str:
    said = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: (\w+)", said)
    assert found is not None
    return found[1]


def stripped(vmlinux: Path, folder: Path) -> Path:
    return objcopy("--strip-debug", vmlinux=vmlinux, to=folder / "vmlinux")


def without_its_other_file(vmlinux: Path, folder: Path) -> Path:
    main = split(vmlinux, folder, link="vmlinux.gone")
    (folder / "vmlinux.gone").unlink()
    return main


def btf_only(vmlinux: Path, folder: Path) -> Path:
    (folder / "btf").write_bytes(b"\x9f\xeb\1")
    return objcopy("--strip-debug", f"--add-section=.BTF={folder / 'btf'}", vmlinux=vmlinux, to=folder / "vmlinux")


def without_symbols(vmlinux: Path, folder: Path) -> Path:
    main = objcopy(vmlinux=vmlinux, to=folder / "kernel")
    without_contents(main, ".symtab")
    return main


def boot_image(_: Path, folder: Path) -> Path:
    path = folder / "vmlinuz"
    path.write_bytes(b"MZ".ljust(0x202, b"\0") + b"HdrS".ljust(1000, b"\0"))
    return path


def unknown_compression(vmlinux: Path, folder: Path) -> Path:
    path = compressed("zlib")(vmlinux, folder)
    data = bytearray(path.read_bytes())
    for header in headers(data):
        if struct.unpack_from("<Q", data, header + 8)[0] & 0x800:
            struct.pack_into("<I", data, struct.unpack_from("<Q", data, header + 0x18)[0], 77)
    path.write_bytes(data)
    return path


def cut_off(vmlinux: Path, folder: Path) -> Path:
    path = folder / "vmlinux.xz"
    path.write_bytes(lzma.compress(vmlinux.read_bytes())[:-100])
    return path


def something_packed(_: Path, folder: Path) -> Path:
    path = folder / "vmlinux.gz"
    path.write_bytes(gzip.compress(b"no ELF file"))
    return path


REFUSED: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "stripped": (stripped, r"/vmlinux has no debug information \(stripped\): install the kernel's debug package"),
    "its other file is gone": (without_its_other_file, r"the file that has it, vmlinux\.gone, is neither beside it"),
    "BTF": (btf_only, r"/vmlinux has BTF but no DWARF debug information, .*install the kernel's debug package"),
    "no symbols": (without_symbols, r"/kernel has debug information but no symbol table"),
    "vmlinuz": (boot_image, r"/vmlinuz is a boot image, which has no debug information: name the vmlinux"),
    "a folder": (lambda _, folder: folder, r" is a folder: name the vmlinux with debug information"),
    "unknown compression": (unknown_compression, r"compressed by ch_type 77, .*`objcopy --decompress-debug-sections "),
    "cut off": (cut_off, r"cannot unpack \S+/vmlinux\.xz: it is cut off"),
    "packed, but no vmlinux": (something_packed, r"/vmlinux\.gz has no ELF file in it"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_of_no_use_is_refused(gdb_run: Gdb, tmp_path: Path, case: bare.Case, form: str) -> None:
    make, sentence = REFUSED[form]
    vmcore = tmp_path / "dump" / "vmcore"
    vmcore.parent.mkdir()
    os.link(case.vmcore, vmcore)
    folder = tmp_path / "given"
    folder.mkdir()
    env = {"KDUMP_VMLINUX_PATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = gdb_run(vmcore=vmcore, vmlinux=make(case.vmlinux, folder), script=True, env=env)
    assert run.status == 1 and "Traceback" not in run.output, run.output
    (line,) = (line for line in run.errors if "Error in sourced command file" not in line)
    assert re.search(sentence, line), line
    assert "None" not in line
    assert not [path for path in (tmp_path / "cache").rglob("*vmlinux*") if path.is_file()]


def test_a_packed_vmlinux_that_no_cache_has_room_for(gdb_run: Gdb, tmp_path: Path, case: bare.Case) -> None:
    packed = tmp_path / "vmlinux.xz"
    packed.write_bytes(lzma.compress(case.vmlinux.read_bytes()))
    (tmp_path / "file").write_text("no folder")
    run = gdb_run(vmcore=case.vmcore, vmlinux=packed, env={"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert f"unpack it by hand (`xz -dk {packed}`) and name what comes out of it" in run.stderr


def test_a_stripped_file_does_not_hide_the_whole_one(gdb_run: Gdb, tmp_path: Path, case: bare.Case) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    objcopy("--strip-all", vmlinux=case.vmlinux, to=first / "vmlinux")
    without_contents(objcopy(vmlinux=case.vmlinux, to=first / f"vmlinux-{RELEASE}"), ".symtab")
    second.mkdir()
    os.link(case.vmlinux, second / "vmlinux")
    vmcore = tmp_path / "dump" / "vmcore"
    vmcore.parent.mkdir()
    os.link(case.vmcore, vmcore)
    env = {"KDUMP_VMLINUX_PATH": f"{first}:{second}"}
    run = gdb_run("kinfo --json", "kbt --json", vmcore=vmcore, env=env).succeeded()
    assert len(run.json()["tasks"][0]["frames"]) == len(bare.CALLS)


@pytest.fixture(scope="module")
def forms(
    lab_dump: Callable[[str], LabDump], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LabDump, Path, dict[str, Path]]]:
    """The lab's kernel 6.1 in two files, and compressed: the DWARF of Debian's own, which is 276 MB of the file."""
    dump, folder = lab_dump("6.1-reference"), tmp_path_factory.mktemp("forms")
    plain = objcopy("--remove-section=.rela*", vmlinux=dump.vmlinux, to=folder / "plain")
    yield (
        dump,
        folder,
        {
            "plain": plain,
            "in two files": split(plain, folder / "two", strip="--strip-all"),
            "zstd": objcopy("--compress-debug-sections=zstd", vmlinux=plain, to=folder / "zstd" / "vmlinux"),
        },
    )
    shutil.rmtree(folder)


def test_a_real_kernel_in_other_forms(gdb_run: Gdb, forms: tuple[LabDump, Path, dict[str, Path]]) -> None:
    dump, _, files = forms
    commands = ("kinfo --json", "kbt -a --json", "skbcheck --all --json", "backtrace", "print init_task.comm")
    shown = {}
    for form, vmlinux in files.items():
        run = gdb_run(*commands, vmcore=dump.vmcore, vmlinux=vmlinux).succeeded()
        documents = run.documents
        assert documents[0].pop("vmlinux") == str(vmlinux)
        shown[form] = [*documents, run.stdout[run.stdout.rindex("#0 ") :]]
    assert shown["in two files"] == shown["zstd"] == shown["plain"]
    assert len(shown["plain"][1]["tasks"]) > 10


@pytest.mark.parametrize("has_build_id", [True, False])
def test_a_kernel_that_notes_no_build_id(gdb_run: Gdb, tmp_path: Path, has_build_id: bool) -> None:
    """As SUSE has it: the kernel packed in boot, whose banner fits, and its debug information in usr/lib/debug/boot."""
    (tmp_path / "made").mkdir()
    vmlinux, vmcore = el6.make(tmp_path / "made")
    plain = gdb_run("kbt --json", "kps --json", vmcore=vmcore, vmlinux=vmlinux).succeeded()
    release = el6.RELEASE
    if not has_build_id:
        subprocess.run(["objcopy", "--remove-section=.notes", vmlinux], check=True)
    main = split(vmlinux, tmp_path, link=f"vmlinux-{release}.debug")
    tree = tmp_path / "tree"
    debug = tree / "usr/lib/debug/boot" / f"vmlinux-{release}.debug"
    packed = tree / "boot" / f"vmlinux-{release}.gz"
    debug.parent.mkdir(parents=True)
    packed.parent.mkdir(parents=True)
    (tmp_path / debug.name).rename(debug)
    packed.write_bytes(gzip.compress(main.read_bytes()))
    env = {"KDUMP_VMLINUX_PATH": str(tree), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    vmlinux.unlink()
    run = gdb_run("kbt --json", "kps --json", "kinfo --json", vmcore=vmcore, env=env).succeeded()
    assert run.documents[:2] == plain.documents
    assert Path(run.json()["vmlinux"]).parent == tmp_path / "cache" / "gdb-kdump" / "vmlinux"
    debug.write_bytes(debug.read_bytes() + b"\0")
    if not has_build_id:  # the checksum in .gnu_debuglink is all that tells
        run = gdb_run(vmcore=vmcore, env=env)
        assert "and the file that has it, " in run.stderr
