"""Installs what the lab needs from Debian."""

import os
import platform
import subprocess
from pathlib import Path

import debugfiles
import kernels
import unpacked
from errors import LabError

TOOLS = (
    "build-essential", "busybox-static", "kexec-tools", "makedumpfile", "qemu-system-x86", "xz-utils",
)  # fmt: skip
# For kernels that are unpacked; one that is installed brings them.
FOREIGN_TOOLS = ("kmod", "libelf1")
# The packages that stand for the newest release of each line, with image and headers.
KERNELS = {
    "6.1": ("linux-image-cloud-amd64", "linux-image-cloud-amd64-dbg", "linux-headers-cloud-amd64"),
    "6.12": ("linux-image-6.12-cloud-amd64", "linux-image-6.12-cloud-amd64-dbg", "linux-headers-6.12-cloud-amd64"),
    # The -dbg of the others has 6 GB, of which the vmlinux, 0.4, and two modules are needed.
    "6.12rt": ("linux-image-6.12-rt-amd64", "linux-headers-6.12-rt-amd64"),
    "6.1rt": ("linux-image-rt-amd64", "linux-headers-rt-amd64"),
    "6.1amd64": ("linux-image-amd64", "linux-headers-amd64"),
}
# Among these are the newer kernels of Debian 12.  A machine that is bare has the release alone.
SECURITY = Path("/etc/apt/sources.list.d/debian-security.list")


def complete(line: str, cache: Path) -> bool:
    """Whether the tools and the line's kernel are there."""
    return not _missing_tools(line) and _with_vmlinux(kernels.find_kernel(line, cache))


def install_missing(line: str, cache: Path) -> None:
    """Installs the tools and the line's kernel where they are not there; says first what it will do."""
    wanted = _missing_tools(line)
    missing = not _with_vmlinux(kernels.find_kernel(line, cache))
    foreign = bool(kernels.LINES[line].suite)
    if missing and not foreign:
        wanted += KERNELS[line]
    if wanted:
        _install(wanted, cache)
    if missing and foreign:
        unpacked.fetch(line, cache)
    kernel = kernels.find_kernel(line, cache)
    if kernel is None:
        raise LabError("packages", f"no {line} kernel with image and headers together")
    if not kernel.vmlinux.exists():
        debugfiles.take(kernel)


def _missing_tools(line: str) -> list[str]:
    tools = TOOLS + (FOREIGN_TOOLS if kernels.LINES[line].suite else ())
    return [name for name in tools if not _installed(name)]


def _with_vmlinux(kernel: kernels.Kernel | None) -> bool:
    return kernel is not None and kernel.vmlinux.exists()


def _install(wanted: list[str], cache: Path) -> None:
    print(f"installing with apt-get: {' '.join(wanted)}", flush=True)
    archives = cache / "apt"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    # Kept in the lab's own folder: the debug packages are 280 MB each.
    keep = ("-o", f"Dir::Cache::archives={archives}", "-o", "APT::Keep-Downloaded-Packages=true")
    _apt("update")
    if not all(_known(name) for name in wanted):
        _add_security_updates()
        _apt("update")
    _apt(*keep, "install", "-y", "--no-install-recommends", *wanted)


def _installed(name: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, check=False, text=True, capture_output=True).stdout == "installed"


def _known(name: str) -> bool:
    return subprocess.run(["apt-cache", "show", name], check=False, capture_output=True).returncode == 0


def _add_security_updates() -> None:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    print(f"adding Debian's security updates to apt's sources: {SECURITY}", flush=True)
    _as_root("sh", "-c", f"echo 'deb {unpacked.ARCHIVE}-security {suite}-security main' > {SECURITY}")


def _apt(*arguments: str) -> None:
    # kexec-tools and others would ask.
    settings = ["DEBIAN_FRONTEND=noninteractive"]
    if not any(Path("/boot").glob("initrd.img-*")):
        # This machine does not boot kernels of Debian: an initramfs for each takes a minute and is for nobody.
        settings.append("INITRD=No")
    _as_root("env", *settings, "apt-get", *arguments)


def _as_root(*command: str) -> None:
    if os.geteuid() != 0:
        command = ("sudo", *command)
    try:
        subprocess.run(command, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise LabError("packages", f"`{' '.join(command)}` failed: {error}") from error
