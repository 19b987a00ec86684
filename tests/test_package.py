"""The package as pip installs it: complete, and sourced from where pip has put it it opens a dump."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

import gdb_kdump

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy: setuptools leaves build/ and *.egg-info where it works."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("gdb_kdump", "commands"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = (*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    subprocess.run(command, check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    subprocess.run((*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)), check=True)
    return folder


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    expected = {f"gdb_kdump/{path.relative_to(ROOT / 'gdb_kdump')}" for path in (ROOT / "gdb_kdump").rglob("*.py")}
    expected |= {
        f"gdb_kdump/commands/{path.relative_to(ROOT / 'commands')}" for path in (ROOT / "commands").rglob("*.py")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert names == expected
    assert wheel.name.startswith(f"gdb_kdump-{gdb_kdump.__version__}-py3-none-any")
    assert set(re.findall(r"^Requires-Dist: ([\w-]+)$", text, re.MULTILINE)) == {"pyelftools", "tabulate"}


def test_the_installed_package_opens_a_dump(
    gdb_run: Gdb, installed: Path, lab_dump: Callable[[str], LabDump], tmp_path: Path
) -> None:
    dump = lab_dump("6.1-reference")
    where = "python import gdb_kdump.commands; print('@', gdb_kdump.commands.__file__)"
    opening = (f"source {installed}/gdb_kdump/init.py", f"target kdump {dump.vmcore}")
    run = gdb_run(*opening, where, "kbt --json", plugin=False, cwd=tmp_path).succeeded()
    assert f"@ {installed}/gdb_kdump/commands/__init__.py\n" in run.stdout
    assert run.json()["tasks"][0]["pid"] == dump.truth["panic_task"]["pid"]
