"""Files that people have in the place of a dump: what each is, and the command that helps."""

from __future__ import annotations

from collections.abc import Callable

_LKCD = 0xA8190173618F23ED.to_bytes(8, "little")  # dump_magic of LKCD's struct __dump_header
_LKCD_REMEDY = "is an LKCD dump, of the years before kdump: use crash, which knows that form"
_SADUMP = b"sadump\0\0"  # at the beginning, or in the second block of a media backup
_SADUMP_REMEDY = "is a dump of the firmware's sadump: make a vmcore of it with `makedumpfile -x VMLINUX`, or use crash"
_BLOCK = 1 << 12  # bytes: sadump's, and the first page of swap
_VMWARE = (
    "is a snapshot's state of VMware (.vmss, .vmsn): make a vmcore of it and its .vmem with `vmss2core -N6 VMSS VMEM`, "
    "or name the .vmem with its vmlinux"
)
_MINIDUMP = "is a dump of Windows: use WinDbg, or `virsh dump` in place of it for a Linux guest"
_SAVED = (
    "is a saved state of QEMU (virsh save, migrate): `virsh restore` it, and dump the guest with "
    "`virsh dump --memory-only --format=kdump-zlib`"
)
_DISK = "is a virtual disk: dump the guest's memory with `virsh dump --memory-only`, or take the vmcore from the disk"
_SWAP = "is swap space, with what `systemctl hibernate` wrote: start the machine, or let kdump write a vmcore of it"

# Where, what stands there, and what the file is.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "is compressed with gzip: unpack it with `gunzip` first"),
    (0, b"\xfd7zXZ\0", "is compressed with xz: unpack it with `unxz` first"),
    (0, b"BZh", "is compressed with bzip2: unpack it with `bunzip2` first"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it with `unzstd` first"),
    (0, b"\x04\x22\x4d\x18", "is compressed with lz4: unpack it with `unlz4` first"),
    (0, b"\x02\x21\x4c\x18", "is compressed with lz4 in its old form: unpack it with `unlz4` first"),
    (0, b"\x89LZO\0\r\n\x1a\n", "is compressed with lzop: unpack it with `lzop -d` first"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it with `7z x` first"),
    (0, b"PK\x03\x04", "is a zip archive: unpack it with `unzip` first"),
    (0, b"Rar!\x1a\x07", "is a rar archive: unpack it with `unrar x` first"),
    (257, b"ustar", "is a tar archive: unpack it with `tar xf` first"),
    (0, b"!<arch>\n", "is a Debian package or another ar archive: unpack it with `dpkg -x` or `ar x` first"),
    (0, b"\xed\xab\xee\xdb", "is an RPM package: unpack it with `rpm2cpio` and `cpio -i` first"),
    (0, b"070701", "is a cpio archive: unpack it with `cpio -i` first"),
    (0, _LKCD, _LKCD_REMEDY),
    (0, _LKCD[::-1], _LKCD_REMEDY),
    (0, _SADUMP, _SADUMP_REMEDY),
    (_BLOCK, _SADUMP, _SADUMP_REMEDY),
    (0, b"\xa8\x19\x01\x73\x61\x8f\x23\xfd", "is a stand-alone dump of s390x: use drgn, or crash of that machine"),
    (0, b"QEVM", _SAVED),
    (0, b"LibvirtQemudSave", _SAVED),
    (0, b"LibvirtQemudPart", _SAVED.replace("saved state", "partly saved state")),
    (0, b"\xd0\xbe\xd2\xbe", _VMWARE),
    (0, b"\xd1\xba\xd1\xba", _VMWARE),
    (0, b"\xd2\xbe\xd2\xbe", _VMWARE),
    (0, b"\xd3\xbe\xd3\xbe", _VMWARE),
    (0, b"PAGEDUMP", _MINIDUMP),
    (0, b"PAGEDU64", _MINIDUMP),
    (0, b"MDMP", _MINIDUMP),
    (0, b"QFI\xfb", f"{_DISK} (qcow2)"),
    (0, b"KDMV", f"{_DISK} (vmdk)"),
    (0, b"vhdxfile", f"{_DISK} (vhdx)"),
    (64, b"\x7f\x10\xda\xbe", f"{_DISK} (vdi)"),
    (0, b"conectix", f"{_DISK} (vhd)"),
    (_BLOCK - 10, b"S1SUSPEND\0", _SWAP),
    (_BLOCK - 10, b"LINHIB0001", _SWAP),
    (_BLOCK - 10, b"SWAPSPACE2", "is swap space: name the vmcore itself"),
)


def stranger(read: Callable[[int, int], bytes]) -> str | None:
    """What a file is that is no dump, as the rest of a sentence, by what it has; None where that is not known.

    `read` gives the bytes at an offset.
    """
    return next((text for offset, magic, text in _SIGNATURES if read(offset, len(magic)) == magic), None)
