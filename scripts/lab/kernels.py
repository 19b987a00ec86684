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
    "load.c",
    "payload.c",
    "inet.c",
    "tcp.c",
    "other.c",
    "tasks.c",
    "odd.c",
    "stacks.c",
    "plant.c",
    "net.c",
)
MODULE_FILES = (
    "Makefile", "main.c", "publish.c", "damage.c", "faults.c", "faults_skb.c", "faults_queue.c", "faults_slab.c",
    "faults_net.c", "netqueues.c", "crash.c", "spin.c", "wait.c", "module.h", "faults.h", "kdump_lab.h",
)  # fmt: skip
COMPILE_LOADER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread")


# makedumpfile's -d for each kernel line.  31 leaves out all that a kernel debugger can do without.  Since 6.10 a slab
# page is marked by its page type (46df8e73a4a3 "mm: free up PG_slab").  Debian 12's makedumpfile, 1.7.2, does not know
# that and takes some for user pages, and so skbs would be missing: there user pages (8) stay in the dump.
DUMP_LEVELS = {"6.1": 31, "6.12": 31 - 8}


@dataclass(frozen=True)
class Kernel:
    """One installed release: its line ("6.1") and its release ("6.1.0-56-cloud-amd64")."""

    line: str
    release: str

    @property
    def vmlinuz(self) -> Path:
        """The image that boots."""
        return Path("/boot", f"vmlinuz-{self.release}")

    @property
    def vmlinux(self) -> Path:
        """The image with debug information."""
        return Path("/usr/lib/debug/boot", f"vmlinux-{self.release}")

    @property
    def modules(self) -> Path:
        """The folder of its modules."""
        return Path("/lib/modules", self.release)

    @property
    def headers(self) -> Path:
        """The folder to build modules in."""
        return self.modules / "build"

    def complete(self) -> bool:
        """Whether image, debug information and headers are all there."""
        return self.vmlinuz.exists() and self.vmlinux.exists() and (self.headers / "Makefile").exists()


@dataclass(frozen=True)
class Build:
    """What was built for one kernel."""

    folder: Path

    @property
    def module(self) -> Path:
        """The module, with debug information."""
        return self.folder / "kdump_lab.ko"

    @property
    def loader(self) -> Path:
        """The loader program."""
        return self.folder / "load"

    @property
    def initramfs(self) -> Path:
        """The initramfs without a scenario."""
        return self.folder / "initramfs.cpio"


def find_kernel(line: str) -> Kernel | None:
    """The newest complete cloud kernel of a line such as "6.1", None where there is none."""
    releases = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob(f"vmlinuz-{line}.*-cloud-amd64")]
    kernels = [kernel for kernel in (Kernel(line, release) for release in releases) if kernel.complete()]
    return max(kernels, key=lambda kernel: [int(n) for n in re.findall(r"\d+", kernel.release)], default=None)


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
    _run("module", "make", "-s", "-C", str(kernel.headers), f"M={folder}", "modules")
    sources = [str(GUEST / name) for name in LOADER_SOURCES]
    _run("loader", *COMPILE_LOADER, "-o", str(result.loader), *sources)
    result.initramfs.write_bytes(
        initramfs.boot_archive(kernel.vmlinuz, kernel.modules, GUEST, result.module, result.loader)
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
