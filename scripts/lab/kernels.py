"""Finds the installed kernels and builds for them what runs in the guest."""

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import initramfs
from errors import LabError

GUEST = Path(__file__).resolve().parent / "guest"
LOADER_SOURCES = (
    "load.c", "payload.c", "inet.c", "tcp.c", "other.c", "tasks.c", "odd.c", "stacks.c", "plant.c", "net.c",
    "unusual.c", "rogue_load.c", "netns.c", "traced.c",
)  # fmt: skip
MODULE_FILES = (
    "Makefile", "main.c", "publish.c", "damage.c", "faults.c", "faults_skb.c", "faults_queue.c", "faults_slab.c",
    "faults_net.c", "netqueues.c", "crash.c", "spin.c", "wait.c", "locks.c", "hooks.c", "module.h", "faults.h",
    "kdump_lab.h", "rogue.c", "rogue_skb.c", "rogue_memory.c", "rogue_sock.c",
    "rogue_freed.c", "rogue_stuck.c", "rogue_wrong.c", "rogue.h",
)  # fmt: skip
COMPILE_LOADER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread")


@dataclass(frozen=True)
class Line:
    """One of Debian's kernels, of which there is ever a newer release: 6.12 as "rt-amd64".

    makedumpfile's -d 31 leaves out all that a kernel debugger can do without.  Since 6.10 a slab page is marked by its
    page type (46df8e73a4a3 "mm: free up PG_slab").  Debian 12's makedumpfile, 1.7.2, does not know that and takes some
    for user pages, and so skbs would be missing: there user pages (8) stay in the dump.
    """

    version: str
    flavour: str
    dump_level: int
    on_demand: tuple[str, ...] = ()  # scenarios that are made for it only when they are named
    usual: bool = True  # whether continuous integration has it; if not, it must be named itself
    suite: str = ""  # the Debian that has it, where this machine's has not: then it is unpacked, not installed


LINES = {
    "6.1": Line("6.1", "cloud-amd64", 31),
    "6.12": Line("6.12", "cloud-amd64", 31 - 8),
    # Where crashes leave the same stacks as in 6.12, one or two of them are enough for continuous integration.
    "6.12rt": Line("6.12", "rt-amd64", 31 - 8, ("stack-overflow", "nmi", "bug-syscall", "warn-syscall", "divide")),
    "6.1rt": Line("6.1", "rt-amd64", 31, usual=False),
    "6.1amd64": Line("6.1", "amd64", 31, usual=False),
    "5.10": Line("5.10", "cloud-amd64", 31, usual=False, suite="bullseye"),
    "5.10rt": Line("5.10", "rt-amd64", 31, usual=False, suite="bullseye"),
}


@dataclass(frozen=True)
class Kernel:
    """One release that is there: its line ("6.1"), its release ("6.1.0-56-cloud-amd64") and the lab's folder."""

    line: str
    release: str
    cache: Path

    @property
    def vmlinuz(self) -> Path:
        """The image that boots."""
        return root(self.line, self.cache) / "boot" / f"vmlinuz-{self.release}"

    @property
    def vmlinux(self) -> Path:
        """The image with debug information: Debian's package installed, or this one file of it beside the dumps."""
        installed = Path("/usr/lib/debug/boot", f"vmlinux-{self.release}")
        return installed if installed.exists() else self.cache / installed.name

    @property
    def modules(self) -> Path:
        """The folder of its modules."""
        return root(self.line, self.cache) / "lib/modules" / self.release

    @property
    def headers(self) -> Path:
        """The folder to build modules in."""
        return self.modules / "build"

    def bootable(self) -> bool:
        """Whether image and headers are there."""
        return self.vmlinuz.exists() and (self.headers / "Makefile").exists()


@dataclass(frozen=True)
class Build:
    """What was built for one kernel."""

    folder: Path

    @property
    def module(self) -> Path:
        """The module, with debug information."""
        return self.folder / "kdump_lab.ko"

    @property
    def driver(self) -> Path:
        """The module that crashes its kernel, stripped of debug information as those in the field are."""
        return self.folder / "rogue_drv.ko"

    @property
    def loader(self) -> Path:
        """The loader program."""
        return self.folder / "load"

    @property
    def initramfs(self) -> Path:
        """The initramfs without a scenario."""
        return self.folder / "initramfs.cpio"


def root(line: str, cache: Path) -> Path:
    """The folder that has the line's boot, lib and usr."""
    return cache / "unpacked" / line if LINES[line].suite else Path("/")


def release_pattern(line: str) -> str:
    """A regular expression for the releases of a line."""
    kind = LINES[line]
    return rf"{re.escape(kind.version)}\.[\d.-]+(?:\+deb\d+)?-{kind.flavour}"


def age(release: str) -> list[int]:
    """The larger, the newer."""
    return [int(number) for number in re.findall(r"\d+", release)]


def find_kernel(line: str, cache: Path) -> Kernel | None:
    """The newest release of a line such as "6.1" that has image and headers, None where there is none."""
    release = re.compile(f"vmlinuz-({release_pattern(line)})")
    names = [found[1] for path in root(line, cache).glob("boot/*") if (found := release.fullmatch(path.name))]
    kernels = [kernel for kernel in (Kernel(line, name, cache) for name in names) if kernel.bootable()]
    return max(kernels, key=lambda kernel: age(kernel.release), default=None)


def build(kernel: Kernel, cache: Path) -> Build:
    """Compiles module and loader and packs the initramfs, unless the same sources were built before."""
    folder = cache / "build" / f"{kernel.release}-{_fingerprint(kernel)}"
    result = Build(folder)
    # Not renamed into place when done: the module's debug information names the folder of its sources.
    complete = folder / "complete"
    if complete.exists():
        return result
    for stale in folder.parent.glob(f"{kernel.release}-*/initramfs.cpio"):
        # Dumps that were made with older sources still need their module, but nothing else.
        stale.unlink()
        (stale.parent / "complete").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in MODULE_FILES:
        shutil.copy(GUEST / name, folder)
    # The headers of another Debian ask for its own gcc.
    compiler = ("CC=gcc",) if LINES[kernel.line].suite else ()
    _run("module", "make", "-s", "-C", str(kernel.headers), f"M={folder}", *compiler, "modules")
    _run("driver", "strip", "--strip-debug", str(result.driver))
    sources = [str(GUEST / name) for name in LOADER_SOURCES]
    _run("loader", *COMPILE_LOADER, "-o", str(result.loader), *sources)
    result.initramfs.write_bytes(
        initramfs.boot_archive(kernel.vmlinuz, kernel.modules, GUEST, (result.module, result.driver), result.loader)
    )
    complete.touch()
    return result


def _fingerprint(kernel: Kernel) -> str:
    """Changes with everything that a build is made of."""
    digest = hashlib.sha256()
    for path in sorted([*GUEST.iterdir(), Path(initramfs.__file__), Path(__file__)]):
        digest.update(path.name.encode() + path.read_bytes())
    for path in (kernel.vmlinuz, *initramfs.HOST_PROGRAMS):
        digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


def _run(step: str, *command: str) -> None:
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise LabError(step, f"`{' '.join(command)}` failed", tuple(done.stdout.splitlines()))
