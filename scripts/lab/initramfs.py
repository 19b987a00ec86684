"""Packs the archives that the guest's two kernels unpack as their root file systems."""

import lzma
import re
import stat
import subprocess
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
KEXEC = Path("/sbin/kexec")
MAKEDUMPFILE = Path("/usr/bin/makedumpfile")
HOST_PROGRAMS = (BUSYBOX, KEXEC, MAKEDUMPFILE)
APPLETS = ("sh", "mount", "insmod", "ip", "sleep", "cat", "tail", "sed", "tr", "sync", "reboot")
FOLDERS = ("dev", "proc", "sys", "tmp")
# The capture kernel's disk; a kernel that has one of them built in needs no module for it.
CAPTURE_MODULES = ("virtio_pci", "virtio_blk")
# What the word "insmod" can load into the kernel that will crash, where it is not built in.
GUEST_MODULES = (
    "sch_fq",
    "sch_tbf",
    "sch_fq_codel",
    "sch_ingress",
    "cls_matchall",
    "act_gact",
    "crc32c_generic",
    "nf_conntrack",
)


class Archive:
    """A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def add(self, name: str, data: bytes, mode: int) -> None:
        """Adds one entry, and before it the folders that it is in."""
        if name in self._names:
            return
        if "/" in name:
            self.add(name.rpartition("/")[0], b"", stat.S_IFDIR | 0o755)
        self._names.add(name)
        self._append(name, data, mode)

    def add_file(self, name: str, data: bytes) -> None:
        """Adds a file that may be run."""
        self.add(name, data, stat.S_IFREG | 0o755)

    def add_program(self, path: Path) -> None:
        """Adds a program of this machine with the libraries that it needs, each at its own place."""
        self.add_file(str(path).lstrip("/"), path.read_bytes())
        listing = subprocess.run(["ldd", str(path)], check=False, text=True, capture_output=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listing):
            self.add_file(library.lstrip("/"), Path(library).read_bytes())

    def finish(self) -> bytes:
        """The archive's bytes; further archives may follow them."""
        self._append("TRAILER!!!", b"", 0)
        return b"".join(self._parts)

    def _append(self, name: str, data: bytes, mode: int) -> None:
        inode = len(self._names) if mode else 0
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        self._parts += [_padded(header), _padded(data)]


def boot_archive(vmlinuz: Path, modules: Path, guest: Path, own: tuple[Path, Path], loader: Path) -> bytes:
    """The root of the kernel that will crash; it carries the capture kernel and that one's root."""
    archive = _base(guest / "init")
    archive.add_program(KEXEC)
    module, driver = own
    archive.add_file("kdump_lab.ko", module.read_bytes())
    archive.add_file(f"modules/{driver.name}", driver.read_bytes())
    archive.add_file("load", loader.read_bytes())
    for path in _load_order(modules, GUEST_MODULES):
        archive.add_file(f"modules/{_module_name(path)}", _module_bytes(path))
    archive.add_file("capture/vmlinuz", vmlinuz.read_bytes())
    archive.add_file("capture/initramfs", _capture_archive(modules, guest))
    return archive.finish()


def scenario_archive(words: tuple[str, ...], dump_options: str) -> bytes:
    """What differs between scenarios: follows the boot archive."""
    archive = Archive()
    archive.add_file("scenario", "".join(f"{line}\n" for line in words).encode())
    archive.add_file("capture/options", f"lab_dump={dump_options.replace(' ', ',')}\n".encode())
    return archive.finish()


def live_archive(modules: Path, init: Path) -> bytes:
    """The root of a kernel that will not crash; its init finds qemu_fw_cfg.ko."""
    archive = _base(init)
    for path in _load_order(modules, ("qemu_fw_cfg",)):
        archive.add_file(_module_name(path), _module_bytes(path))
    return archive.finish()


def guest_archive(init: Path, module: Path, loader: Path) -> bytes:
    """The root of a kernel that has no other to go on with; a scenario follows it."""
    archive = _base(init)
    archive.add_file("kdump_lab.ko", module.read_bytes())
    archive.add_file("load", loader.read_bytes())
    return archive.finish()


def _capture_archive(modules: Path, guest: Path) -> bytes:
    archive = _base(guest / "capture")
    archive.add_program(MAKEDUMPFILE)
    order = _load_order(modules, CAPTURE_MODULES)
    for path in order:
        archive.add_file(f"modules/{_module_name(path)}", _module_bytes(path))
    archive.add_file("modules/order", "".join(f"{_module_name(path)}\n" for path in order).encode())
    return archive.finish()


def _base(init: Path) -> Archive:
    archive = Archive()
    for folder in FOLDERS:
        archive.add(folder, b"", stat.S_IFDIR | 0o755)
    archive.add_file("bin/busybox", BUSYBOX.read_bytes())
    for applet in APPLETS:
        archive.add(f"bin/{applet}", b"busybox", stat.S_IFLNK | 0o777)
    archive.add_file("init", init.read_bytes())
    return archive


def _load_order(modules: Path, wanted: tuple[str, ...]) -> list[Path]:
    """The files of the `wanted` modules with what they depend on, in the order in which they load."""
    depends: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    by_name = {_module_name(Path(path)).removesuffix(".ko"): path for path in depends}
    order: list[str] = []
    for name in wanted:
        if name in by_name:
            # modules.dep names the farthest dependency last.
            order += [path for path in (*reversed(depends[by_name[name]]), by_name[name]) if path not in order]
    return [modules / path for path in order]


def _module_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _module_name(path: Path) -> str:
    return path.name.removesuffix(".xz")


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
