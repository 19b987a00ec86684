"""What GDB and its Python must have, and how each distribution installs what is lacking.  Needs no GDB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

# The last that GDB got of what is used here: both came with GDB 12.
FEATURES = ("with_parameter", "TargetConnection")

PACKAGES = {"elftools": "python3-pyelftools", "tabulate": "python3-tabulate"}  # modules, and their packages
LIBRARY = "python3-libkdumpfile"  # the package of the module that the dump server's Python must have

_OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_FAMILIES = {
    "debian": ("debian", "ubuntu"),
    "fedora": ("fedora",),
    "rhel": ("rhel", "centos", "rocky", "almalinux", "ol"),
    "suse": ("suse", "opensuse", "sles", "sled"),
}
_INSTALL = {
    "debian": "apt install {}",
    "fedora": "dnf install {}",
    "rhel": "dnf install {}",
    "suse": "zypper install {}",
}
_NOTES = {"rhel": ", with the repositories CRB and EPEL enabled"}

# Where a distribution's kernels have their debug information, by what `uname -r` says; the first that matches decides.
_KERNELS = (
    (r"(?P<version>.+\.fc\d+\.\w+)(?:\+(?P<flavour>\w+))?", "Fedora", "dnf --enablerepo='*debug*' install {rpm}"),
    (r"(?P<version>.+\.el\d\w*\.\w+)(?:\+(?P<flavour>\w+))?", "RHEL and its clones",
     "dnf --enablerepo='*debug*' install {rpm}"),
    (r"\d.*-(?:amd64|arm64)", "Debian", "apt install linux-image-{release}-dbg"),
    (r"(?P<version>\d[\d.]*-\d[\d.]*)-(?P<flavour>default|preempt|kvmsmall)", "SUSE", "{suse}"),
    (r"(?P<version>\d[\d.]*-\d+\.[\d.]+)-(?P<flavour>azure|rt)", "SUSE", "{suse}"),
    (r"\d+\.\d+\.\d+-\d+-[a-z][a-z0-9-]*", "Ubuntu",
     "apt install linux-image-unsigned-{release}-dbgsym, with ddebs.ubuntu.com among apt's sources"),
)  # fmt: skip
_RELEASE = re.compile(r"[A-Za-z0-9_.+~-]+")  # of what goes into a command: a dump may say anything
_SERVERS = {
    "Debian": "https://debuginfod.debian.net",
    "Ubuntu": "https://debuginfod.ubuntu.com",
    "Fedora": "https://debuginfod.fedoraproject.org",
    "SUSE": "https://debuginfod.opensuse.org",
}


def how_to_install(packages: Iterable[str], os_release: Mapping[str, str] | None = None) -> str:
    """How this machine's distribution installs packages, named as Debian names them: "run `apt install ...`"."""
    names = " ".join(packages)
    family = _family(read_os_release() if os_release is None else os_release)
    if family is None:
        return f"install {names.replace(' ', ' and ')}, as Debian and Fedora call it"
    return f"run `{_INSTALL[family].format(names)}`{_NOTES.get(family, '')}"


def read_os_release() -> dict[str, str]:
    """What the machine says of its distribution, os-release(5); empty where it says nothing."""
    for path in _OS_RELEASE:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        return {key: value.strip("\"'") for key, value in re.findall(r"^(\w+)=(.*?)\s*$", text, re.MULTILINE)}
    return {}


def _family(os_release: Mapping[str, str]) -> str | None:
    for word in [os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()]:
        for family, names in _FAMILIES.items():
            if word in names or word.startswith("opensuse-"):
                return "suse" if word.startswith("opensuse-") else family
    return None


def how_to_get_vmlinux(release: str | None) -> str:
    """What installs the vmlinux with debug information of a kernel, by its release: "Debian: `apt install ...`"."""
    plain = release if release is not None and _RELEASE.fullmatch(release) else ""
    for pattern, distribution, command in _KERNELS:
        match = re.fullmatch(pattern, plain, re.ASCII)
        if match is None:
            continue
        groups = match.groupdict()
        version, flavour = groups.get("version") or "", groups.get("flavour") or ""
        if command == "{suse}":
            return (
                f"{distribution}: `zypper --plus-content debug install kernel-{flavour}-debuginfo`, of version "
                f"{version} (the package's may have one number more)"
            )
        rpm = f"kernel-{flavour + '-' if flavour else ''}debuginfo-{version}"
        if ".rt" in version and not flavour:
            rpm = f"kernel-rt-debuginfo-{version}"
        line, _, note = command.partition(", ")
        return f"{distribution}: `{line.format(release=release, rpm=rpm)}`" + (f", {note}" if note else "")
    return (
        "it is what the kernel's build left as `vmlinux`, or the debug package of the distribution that built it has it"
    )


def public_server(release: str | None) -> str | None:
    """The public debuginfod server of the distribution that built a kernel, where it has one that is known."""
    distribution = how_to_get_vmlinux(release).partition(":")[0]
    return _SERVERS.get(distribution)
