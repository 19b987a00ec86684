"""Takes the few files that are needed out of a kernel's debug package, which has gigabytes."""

import subprocess
import tempfile
from pathlib import Path

import initramfs
import kernels
from errors import LabError


def take(kernel: kernels.Kernel, apt: tuple[str, ...] = ()) -> None:
    """Puts the files of the kernel's debug package that are needed where the plugin finds them, the vmlinux last.

    `apt` are further options of apt-get.
    """
    package = f"linux-image-{kernel.release}-dbg"
    print(f"taking the vmlinux out of {package}, a download of up to 1 GB", flush=True)
    modules = [path.relative_to(kernel.modules) for name in initramfs.GUEST_MODULES
               for path in kernel.modules.rglob(f"{name}.ko*")]  # fmt: skip
    members = [f"./usr/lib/debug/lib/modules/{kernel.release}/{path}".removesuffix(".xz") for path in modules]
    members.append(f"./usr/lib/debug/boot/{kernel.vmlinux.name}")
    with tempfile.TemporaryDirectory(prefix=".making-", dir=kernel.cache) as name:
        folder = Path(name)
        run(["apt-get", *apt, "-q", "download", package], folder)
        (archive,) = folder.glob("*.deb")
        # tar ends at the last of the files, and dpkg-deb then cannot write the rest.
        extract = f"dpkg-deb --fsys-tarfile {archive} 2>/dev/null | tar -x --occurrence=1 {' '.join(members)}"
        run(["sh", "-c", extract], folder)
        of_release = kernel.cache / kernel.release  # modules of several kernels have the same names
        of_release.mkdir(exist_ok=True)
        *taken, vmlinux = (folder / member for member in members)
        for module in taken:
            module.rename(of_release / module.name)
        vmlinux.rename(kernel.cache / vmlinux.name)


def run(command: list[str], folder: Path) -> str:
    """What a command that works in a folder prints, to either stream."""
    done = subprocess.run(command, check=False, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise LabError("packages", f"`{' '.join(command)}` failed", tuple(done.stdout.splitlines()))
    return done.stdout
