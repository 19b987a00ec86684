"""What is lacking is named with what installs it, on each distribution; a dump's words never become a command."""

from __future__ import annotations

import re

import pytest

from gdb_kdump.installing import how_to_get_vmlinux, how_to_install, public_server


@pytest.mark.parametrize(
    ("os_release", "words"),
    [
        ({"ID": "debian"}, "run `apt install python3-tabulate python3-pyelftools`"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "run `apt install "),
        ({"ID": "fedora"}, "run `dnf install python3-tabulate "),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "run `dnf install .*`, with the repositories CRB and EPEL"),
        ({"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, "run `zypper install "),
        ({"ID": "sles", "ID_LIKE": "suse"}, "run `zypper install "),
        ({"ID": "arch"}, "install python3-tabulate and python3-pyelftools, as Debian and Fedora call it"),
        ({}, "install python3-tabulate and python3-pyelftools, as Debian and Fedora call it"),
    ],
)
def test_packages(os_release: dict[str, str], words: str) -> None:
    assert re.match(words, how_to_install(["python3-tabulate", "python3-pyelftools"], os_release))


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("6.1.0-56-cloud-amd64", "Debian: `apt install linux-image-6.1.0-56-cloud-amd64-dbg`"),
        ("6.12.117+deb12-rt-amd64", "Debian: `apt install linux-image-6.12.117+deb12-rt-amd64-dbg`"),
        ("5.15.0-91-generic", "Ubuntu: `apt install linux-image-unsigned-5.15.0-91-generic-dbgsym`, with ddebs"),
        ("5.4.0-1103-azure", "Ubuntu: `apt install linux-image-unsigned-5.4.0-1103-azure-dbgsym`, with ddebs"),
        ("6.7.4-200.fc39.x86_64",
         "Fedora: `dnf --enablerepo='*debug*' install kernel-debuginfo-6.7.4-200.fc39.x86_64`"),
        ("5.14.0-362.8.1.el9_3.x86_64", "RHEL and its clones: `dnf --enablerepo='*debug*' install "
         "kernel-debuginfo-5.14.0-362.8.1.el9_3.x86_64`"),
        ("5.14.0-362.8.1.el9_3.x86_64+debug", "RHEL and its clones: `dnf --enablerepo='*debug*' install "
         "kernel-debug-debuginfo-5.14.0-362.8.1.el9_3.x86_64`"),
        ("4.18.0-513.5.1.rt7.307.el8_9.x86_64", "RHEL and its clones: `dnf --enablerepo='*debug*' install "
         "kernel-rt-debuginfo-4.18.0-513.5.1.rt7.307.el8_9.x86_64`"),
        ("5.14.21-150400.24.100-default", "SUSE: `zypper --plus-content debug install kernel-default-debuginfo`, of "
         "version 5.14.21-150400.24.100 "),
        ("5.14.21-150500.33.29-azure", "SUSE: `zypper --plus-content debug install kernel-azure-debuginfo`, of "),
        ("6.7.6-1-default", "SUSE: `zypper --plus-content debug install kernel-default-debuginfo`, of version 6.7.6-1"),
    ],
)  # fmt: skip
def test_the_debug_package_of_a_kernel(release: str, words: str) -> None:
    assert how_to_get_vmlinux(release).startswith(words)
    assert (public_server(release) is not None) == (not words.startswith("RHEL"))


@pytest.mark.parametrize("release", [None, "", "6.8.0", "6.1.0-1-amd64; rm -rf ~ -amd64", "6.1`id`-amd64", "6\n-amd64"])
def test_of_other_releases_there_is_no_command(release: str | None) -> None:
    assert "`vmlinux`" in how_to_get_vmlinux(release) and how_to_get_vmlinux(release).count("`") == 2
    assert public_server(release) is None
