"""Installs what the lab needs from Debian."""

import os
import subprocess
import tempfile
from pathlib import Path

import initramfs
import kernels
from errors import LabError

TOOLS = (
    "build-essential", "busybox-static", "kexec-tools", "makedumpfile", "qemu-system-x86", "xz-utils",
)  # fmt: skip
# The packages that stand for the newest release of each line, with image and headers.
KERNELS = {
    "6.1": ("linux-image-cloud-amd64", "linux-image-cloud-amd64-dbg", "linux-headers-cloud-amd64"),
    "6.12": ("linux-image-6.12-cloud-amd64", "linux-image-6.12-cloud-amd64-dbg", "linux-headers-6.12-cloud-amd64"),
    # The -dbg of the others has 6 GB, of which the vmlinux, 0.4, and two modules are needed.
    "6.12rt": ("linux-image-6.12-rt-amd64", "linux-headers-6.12-rt-amd64"),
    "6.1rt": ("linux-image-rt-amd64", "linux-headers-rt-amd64"),
    "6.1amd64": ("linux-image-amd64", "linux-headers-amd64"),
}


def install_missing(lines: list[str], cache: Path) -> None:
    """Installs the tools and the kernels of these lines that are not there; says first what it will do."""
    wanted = [name for name in TOOLS if not _installed(name)]
    for line in lines:
        kernel = kernels.find_kernel(line, cache)
        if kernel is None or not kernel.vmlinux.exists():
            wanted += KERNELS[line]
    if not wanted:
        return
    print(f"installing with apt-get: {' '.join(wanted)}", flush=True)
    archives = cache / "apt"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    # Kept in the lab's own folder: the debug packages are 280 MB each.
    keep = ("-o", f"Dir::Cache::archives={archives}", "-o", "APT::Keep-Downloaded-Packages=true")
    _apt("update")
    _apt(*keep, "install", "-y", "--no-install-recommends", *wanted)
    for line in lines:
        kernel = kernels.find_kernel(line, cache)
        if kernel is None:
            raise LabError("packages", f"no {line} kernel with image and headers together")
        if not kernel.vmlinux.exists():
            _take_debug_files(kernel)


def _take_debug_files(kernel: kernels.Kernel) -> None:
    """Puts the files of the kernel's debug package that are needed where the plugin finds them, the vmlinux last."""
    package = f"linux-image-{kernel.release}-dbg"
    print(f"taking the vmlinux out of {package}, a download of about 1 GB", flush=True)
    modules = [path for name in initramfs.GUEST_MODULES for path in kernel.modules.rglob(f"{name}.ko*")]
    members = [f"./usr/lib/debug{path}".removesuffix(".xz") for path in modules]
    members.append(f"./usr/lib/debug/boot/{kernel.vmlinux.name}")
    with tempfile.TemporaryDirectory(prefix=".making-", dir=kernel.cache) as name:
        folder = Path(name)
        _run(["apt-get", "-q", "download", package], folder)
        (archive,) = folder.glob("*.deb")
        # tar ends at the last of the files, and dpkg-deb then cannot write the rest.
        extract = f"dpkg-deb --fsys-tarfile {archive} 2>/dev/null | tar -x --occurrence=1 {' '.join(members)}"
        _run(["sh", "-c", extract], folder)
        of_release = kernel.cache / kernel.release  # modules of several kernels have the same names
        of_release.mkdir(exist_ok=True)
        *taken, vmlinux = (folder / member for member in members)
        for module in taken:
            module.rename(of_release / module.name)
        vmlinux.rename(kernel.cache / vmlinux.name)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, check=False, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise LabError("packages", f"`{' '.join(command)}` failed", tuple(done.stdout.splitlines()))


def _installed(name: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, check=False, text=True, capture_output=True).stdout == "installed"


def _apt(*arguments: str) -> None:
    # kexec-tools and others would ask.
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *arguments]
    if os.geteuid() != 0:
        command.insert(0, "sudo")
    try:
        subprocess.run(command, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise LabError("packages", f"`{' '.join(command)}` failed: {error}") from error
