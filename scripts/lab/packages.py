"""Installs what the lab needs from Debian."""

import os
import subprocess
from pathlib import Path

import kernels
from errors import LabError

TOOLS = (
    "build-essential", "busybox-static", "kexec-tools", "makedumpfile", "qemu-system-x86", "xz-utils",
)  # fmt: skip
# The packages that stand for the newest release of each line.
KERNELS = {
    "6.1": ("linux-image-cloud-amd64", "linux-image-cloud-amd64-dbg", "linux-headers-cloud-amd64"),
    "6.12": ("linux-image-6.12-cloud-amd64", "linux-image-6.12-cloud-amd64-dbg", "linux-headers-6.12-cloud-amd64"),
}


def install_missing(lines: list[str], cache: Path) -> None:
    """Installs the tools and the kernels of these lines that are not there; says first what it will do."""
    wanted = [name for name in TOOLS if not _installed(name)]
    for line in lines:
        if not kernels.find_kernel(line):
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
        if not kernels.find_kernel(line):
            raise LabError("packages", f"no {line} cloud kernel with image, debug information and headers together")


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
