"""Kernels of another Debian: fetched with apt's checks and unpacked beside the dumps; nothing of them is installed."""

import re
import shutil
import tempfile
from pathlib import Path

import kernels
from debugfiles import run, take
from errors import LabError

ARCHIVE = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def fetch(line: str, cache: Path) -> None:
    """Puts image, modules, headers and debug files of the line's newest release where find_kernel() looks for them."""
    suite = kernels.LINES[line].suite
    print(f"unpacking {line} of Debian's {suite}, a download of some 300 MB or more", flush=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as name:
        work = Path(name)
        apt = _private_apt(work, suite)
        run(["apt-get", *apt, "-q", "update"], work)
        release = _newest(line, run(["apt-cache", *apt, "pkgnames", "linux-image-"], work))
        headers = f"linux-headers-{release}"
        depends = run(["apt-cache", *apt, "depends", headers], work)
        parts = re.findall(r"Depends: (linux-(?:headers|kbuild)-\S+)", depends)
        run(["apt-get", *apt, "-q", "download", f"linux-image-{release}", headers, *parts], work)
        root = work / "root"
        root.mkdir()
        for archive in work.glob("*.deb"):
            run(["sh", "-c", f"dpkg-deb --fsys-tarfile {archive} | tar -x -C {root} --keep-directory-symlink"], work)
            archive.unlink()
        final = kernels.root(line, cache)
        _relocate(root, final, release)
        run(["/sbin/depmod", "-b", str(root), release], work)
        final.parent.mkdir(exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        root.rename(final)
        kernel = kernels.find_kernel(line, cache)
        if kernel is None:
            raise LabError("packages", f"{suite} has no {line} kernel with image and headers together")
        take(kernel, apt)


def _private_apt(work: Path, suite: str) -> tuple[str, ...]:
    """The options with which apt knows that suite only, believes Debian's keys only, and sees nothing installed."""
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "archives" / "partial").mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [arch=amd64 signed-by={KEYS}] {ARCHIVE} {suite} main\n")
    (work / "status").touch()
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State": work,
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "APT::Architecture": "amd64",
        # The folder is its owner's only.
        "APT::Sandbox::User": "",
    }
    return tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))


def _newest(line: str, names: str) -> str:
    release = kernels.release_pattern(line)
    found = [match[1] for name in names.split() if (match := re.fullmatch(f"linux-image-({release})", name))]
    if not found:
        raise LabError("packages", f"{kernels.LINES[line].suite} has no kernel {line}")
    return max(found, key=kernels.age)


def _relocate(root: Path, final: Path, release: str) -> None:
    """The packages name places under /usr/src, which are to be those below `final`."""
    headers = f"usr/src/linux-headers-{release}"
    makefile = root / headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{final}/usr/src/"))
    build = root / "lib/modules" / release / "build"
    build.unlink()
    build.symlink_to(final / headers)
