"""Where the kernel lies in a dump: what VMCOREINFO claims, held against the vmlinux, or else what a search finds."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.arch.architecture import Architecture
from gdb_kdump.channel.client import Server
from gdb_kdump.debuginfo.kernel_file import KernelFile
from gdb_kdump.errors import DumpError, Unreadable, UsageError
from gdb_kdump.formats.vmcoreinfo import KNOWN_SYMBOLS, offset_of, symbol
from gdb_kdump.memory import Memory
from gdb_kdump.text import escape

_BANNER = b"Linux version "
_MORE = 256  # bytes of another kernel's banner


@dataclass(frozen=True)
class Claim:
    """A VMCOREINFO, and the text of one that is not the dump's own and that the server has yet to be given."""

    vmcoreinfo: dict[str, str]
    given: str | None = None
    of_another: bool = False
    """Whether it has the build-id of another kernel."""


@dataclass(frozen=True)
class Whereabouts:
    """The KASLR offset in bytes, by which the server reads from now on; the VMCOREINFO that may be believed."""

    kaslr_offset: int
    vmcoreinfo: dict[str, str]
    note: str = ""
    """For the user, where that is not what the dump has."""


def locate_kernel(
    server: Server, kernel: KernelFile, arch: Architecture, claim: Claim, asked: int | None
) -> Whereabouts:
    """Have the server translate the kernel's addresses; `asked` is the KASLR offset that the user gave.

    After a kexec, or in the memory of a host, VMCOREINFO may be that of another kernel; and a dumper may fail to know
    where a guest's kernel was loaded.  Raises DumpError, UsageError.
    """
    vmcoreinfo = claim.vmcoreinfo
    if claim.of_another:
        return Whereabouts(_search(server, kernel, arch, asked), {}, _note(kernel, "is that of another kernel"))
    if not (server.use_vmcoreinfo(claim.given) if claim.given is not None else server.info().translates):
        return Whereabouts(_search(server, kernel, arch, asked), vmcoreinfo)
    linked = {name: at.value for name in (*KNOWN_SYMBOLS, *arch.located_by) if (at := kernel.find_symbol(name))}
    told = offset_of(vmcoreinfo, {name: value for name, value in linked.items() if name in KNOWN_SYMBOLS})
    offset = asked if asked is not None else told or 0
    moved = {noted - linked[name] for name in linked if (noted := symbol(vmcoreinfo, name)) is not None}
    banner = _banner(server, kernel, offset)
    if moved <= {offset} and banner == kernel.banner:
        return Whereabouts(offset, vmcoreinfo)
    try:
        found = _search(server, kernel, arch, asked)
    except (DumpError, UsageError):
        if asked is not None and {told, *moved} != {asked}:
            raise
        is_another = banner.startswith(_BANNER) or (banner and "BUILD-ID" not in vmcoreinfo) or len(moved) > 1
        if banner != kernel.banner and is_another:
            raise _other_kernel(kernel, banner) from None
        return Whereabouts(offset, vmcoreinfo)  # the dump has lost what would tell
    return Whereabouts(found, {}, _note(kernel, "does not lead to it"))


def _search(server: Server, kernel: KernelFile, arch: Architecture, asked: int | None) -> int:
    wanted = (*arch.located_by, "max_pfn")
    symbols = {name: at.value for name in wanted if (at := kernel.find_symbol(name))}
    if not arch.can_locate(symbols):
        needed = ", ".join(arch.needed_to_locate)
        raise UsageError(f"{kernel.path} has no symbols to find the kernel by ({needed}): name another")
    return server.find_kernel(kernel.banner, symbols, asked)


def _note(kernel: KernelFile, why: str) -> str:
    return (
        f"the kernel of {kernel.path} was looked for in memory and found: the dump's VMCOREINFO {why}, and nothing of "
        "it is used"
    )


def _banner(server: Server, kernel: KernelFile, kaslr_offset: int) -> bytes:
    """What the dump has where the vmlinux has init/version.c: linux_banner; empty where it does not say."""
    place = kernel.find_symbol("linux_banner")
    if place is None:
        return b""
    try:
        addr = place.value + (kaslr_offset if place.relocated else 0)
        return Memory(server).cstring(addr, len(kernel.banner) + _MORE)
    except Unreadable:
        return b""


def _other_kernel(kernel: KernelFile, banner: bytes) -> UsageError:
    text = escape(banner.decode("utf-8", "replace").strip()) if banner.startswith(_BANNER) else "none"
    return UsageError(
        f"{kernel.path} is the vmlinux of another kernel: its banner is {escape(kernel.banner.strip())!r}, the dump "
        f"has {text!r} there; name the vmlinux of the kernel that crashed"
    )
