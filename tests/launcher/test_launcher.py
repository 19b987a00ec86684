"""gdb-kdump, the program: documents alone on stdout, the exit status, GDBs that will do and that will not."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import elftools
import pytest
import tabulate
from fixtures import bare
from pytest_gdb_fixtures import LabDump, Terminal, launcher_environment, run_launcher
from pytest_gdb_fixtures.process import GDB

import gdb_kdump
from gdb_kdump.launcher.arguments import parse


@pytest.fixture
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def test_documents_are_alone_on_stdout_in_order(tmp_path: Path, dump: LabDump) -> None:
    commands = ["ktriage", "kps 1", "kps --nonsense", "bt", "kinfo --json"]
    words = [word for command in commands for word in ("--run", command)]
    run = run_launcher(tmp_path, *words, "--json", str(dump.vmcore))
    documents = [json.loads(line) for line in run.stdout.splitlines()]
    assert [sorted(document)[0] for document in documents] == ["cause", "problems", "command", "command", "build_id"]
    assert documents[0]["cause"]["kind"] == "overrun-self" and documents[1]["tasks"][0]["comm"] == "init"
    assert documents[2]["command"] == "kps --nonsense" and "no option --nonsense" in documents[2]["error"]
    assert documents[3]["error"].startswith("bt makes no JSON: leave --json out")
    assert run.status == 1 and "no option --nonsense" in run.stderr


def test_json_alone_is_that_of_ktriage(tmp_path: Path, dump: LabDump) -> None:
    run = run_launcher(tmp_path, "--json", str(dump.vmcore))
    (document,) = map(json.loads, run.stdout.splitlines())
    assert document["verdict"] == "corrupt" and document["panic"]["pid"] == dump.truth["panic_task"]["pid"]
    assert run.status == 2 and run.stderr == ""


@pytest.mark.parametrize(
    ("name", "commands", "status"),
    [
        ("6.1-reference", ["kps"], 0),
        ("6.1-reference", ["kps", "ktriage", "kps"], 2),
        ("6.1-reference", ["ktriage", "nonsense"], 1),
        ("6.1-reference", ["kps", "print 1", "print nonsense"], 1),
        ("6.1-healthy", ["ktriage", "skbcheck --all"], 0),
    ],
)
def test_the_status_is_the_worst_of_all_commands(
    tmp_path: Path, lab_dump: Callable[[str], LabDump], name: str, commands: list[str], status: int
) -> None:
    words = [word for command in commands for word in ("--run", command)]
    run = run_launcher(tmp_path, *words, str(lab_dump(name).vmcore))
    assert run.status == status, run.output


def test_what_commands_print_and_nothing_else_is_on_stdout(tmp_path: Path, dump: LabDump) -> None:
    run = run_launcher(tmp_path, "--run", "kps 1", "--run", "print 6 * 7", str(dump.vmcore)).succeeded()
    header, task, value = run.stdout.splitlines()
    assert header.split() == ["PID", "CPU", "TASK", "ST", "COMM"] and task.split()[-1] == "init" and value == "$1 = 42"
    assert run.stderr == ""


def test_what_is_told_while_it_opens_is_on_stderr(tmp_path: Path) -> None:
    case = bare.make(tmp_path)
    packed = case.vmlinux.with_name("vmlinux.gz")
    packed.write_bytes(gzip.compress(case.vmlinux.read_bytes()))
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = run_launcher(tmp_path, "--run", "print 1", str(case.vmcore), str(packed), env=env).succeeded()
    assert run.stdout == "$1 = 1\n" and f"Unpacking {packed}, once ..." in run.stderr


def test_a_report_goes_to_its_folder(tmp_path: Path, dump: LabDump) -> None:
    folder = tmp_path / "reports of" / "today"
    run = run_launcher(tmp_path, "--report", str(folder), str(dump.vmcore))
    page, data = folder / f"{dump.vmcore.name}.html", folder / f"{dump.vmcore.name}.json"
    assert run.status == 2 and run.stdout.startswith(f"wrote {page}\nwrote {data}\ncorrupt: ") and run.stderr == ""
    documents = json.loads(data.read_text())
    assert documents["ktriage"]["verdict"] == "corrupt" and documents["ktriage"]["summary"] in run.stdout
    assert documents["kinfo"]["build_id"] in page.read_text() and folder.stat().st_mode & 0o077 == 0
    run = run_launcher(tmp_path, "--report", str(folder), "--json", str(dump.vmcore))
    (refused,) = map(json.loads, run.stdout.splitlines())
    assert run.status == 1 and "is not overwritten" in refused["error"]
    run = run_launcher(tmp_path, "--report", str(page / "below"), str(dump.vmcore))
    assert run.status == 1 and run.stdout == "" and run.errors[0].startswith(f"gdb-kdump: cannot make {page}/below: ")


def test_files_of_commands_and_batch(tmp_path: Path, dump: LabDump) -> None:
    first, second = tmp_path / "first of all.gdb", tmp_path / "second.py"
    first.write_text("echo one\\n\nkps 1\n")
    second.write_text("import gdb\nprint('two', int(gdb.parse_and_eval('$task(1)->pid')))\n")
    vmcore = str(dump.vmcore)
    run = run_launcher(tmp_path, "-x", str(first), "--run", "print 3", "-x", str(second), vmcore).succeeded()
    lines = run.stdout.splitlines()
    assert [lines[0], *lines[3:]] == ["one", "$1 = 3", "two 1"] and run.stderr == ""
    run = run_launcher(tmp_path, "--batch", vmcore)
    assert run.status == 2 and "skb_release_data" in run.stdout and run.stderr == ""
    first.write_text("kps 1\nnonsense\nkps 1\n")
    run = run_launcher(tmp_path, "--batch", "-x", str(first), vmcore)
    assert run.status == 1 and len(run.stdout.splitlines()) == 2 and "nonsense" in run.stderr


def test_a_dump_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no dump at all\n")
    for words in (["--json", str(text)], [str(text)], ["--run", "kps", str(tmp_path / "absent")]):
        run = run_launcher(tmp_path, *words)
        assert run.status == 1 and run.stdout == ""
        (sentence,) = run.errors
        assert sentence.startswith("gdb-kdump: ")


def test_words_that_are_none_are_an_error_and_not_a_verdict(tmp_path: Path) -> None:
    run = run_launcher(tmp_path, "--nonsense")
    assert run.status == 1 and run.errors == [
        "gdb-kdump: unrecognized arguments: --nonsense; gdb-kdump --help tells more"
    ]
    helped = run_launcher(tmp_path, "--help").succeeded()
    assert "Exit status: 0 nothing is corrupt" in helped.stdout


def test_the_order_of_what_is_run_is_that_of_the_command_line() -> None:
    arguments = parse(["--run", "kbt", "-x", "a.gdb", "--run=kps", "--kaslr", "0x10", "vmcore", "vmlinux"])
    assert arguments.steps == [("run", "kbt"), ("file", "a.gdb"), ("run", "kps")]
    assert arguments.files == ["vmcore", "vmlinux"] and arguments.hints == ["--kaslr", "0x10"]
    assert not arguments.prompt and parse(["-x", "a", "vmcore"]).prompt and not parse(["--json", "vmcore"]).prompt


def test_versions(tmp_path: Path) -> None:
    run = run_launcher(tmp_path, "--version").succeeded()
    ours, debugger, library = run.stdout.splitlines()
    said = subprocess.run([GDB, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    assert ours == f"gdb-kdump {gdb_kdump.__version__}"
    assert debugger.startswith("GDB ") and debugger.split()[1] in said and f"({GDB}), Python 3." in debugger
    assert "libkdumpfile 0." in library or "pykdumpfile 0." in library


def gdb_that(program: Path, statement: str) -> Path:
    """A real GDB that runs a statement of Python first: what its Python has not, another machine's would not have."""
    program.write_text(f'#!/bin/sh\nexec {GDB} -iex "python {statement}" "$@"\n')
    program.chmod(0o755)
    return program


def gdb_without(program: Path, module: str) -> Path:
    return gdb_that(program, f"import sys; sys.modules['{module}'] = None")


def test_a_gdb_that_lacks_a_package_is_named_with_what_installs_it(tmp_path: Path, dump: LabDump) -> None:
    program = gdb_without(tmp_path / "gdb-without", "tabulate")
    run = run_launcher(tmp_path, "--run", "kps", str(dump.vmcore), env={"GDB": str(program)})
    assert run.status == 1
    (sentence,) = run.errors
    assert f"{program} (GDB " in sentence and "lacks python3-tabulate: run `apt install python3-tabulate`" in sentence


def test_the_next_gdb_is_taken_where_the_first_will_not_do(tmp_path: Path, dump: LabDump) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    gdb_without(folder / "gdb", "elftools")
    (folder / "gdb-multiarch").symlink_to(GDB)
    path = f"{folder}:{os.environ['PATH']}"
    run = run_launcher(tmp_path, "--run", "kps 1", str(dump.vmcore), env={"GDB": None, "PATH": path}).succeeded()
    assert "init" in run.stdout
    (folder / "gdb-multiarch").unlink()
    shutil.copy("/bin/true", folder / "gdb-multiarch")
    run = run_launcher(tmp_path, "--run", "kps 1", str(dump.vmcore), env={"GDB": None, "PATH": path})
    assert run.status == 1 and "lacks python3-pyelftools" in run.stderr
    assert f"{folder}/gdb-multiarch is no GDB with Python (it says: nothing)" in run.stderr


def test_packages_of_the_launchers_own_python_are_lent(tmp_path: Path, dump: LabDump) -> None:
    """As with pipx, whose venv has pyelftools and tabulate, which GDB's Python has not."""
    own = tmp_path / "own"
    for module in (elftools, tabulate):
        file = Path(str(module.__file__))
        if file.name == "__init__.py":
            shutil.copytree(file.parent, own / file.parent.name)
        else:
            shutil.copy(file, own)
    alone = "import sys; sys.path[:] = [path for path in sys.path if not path.endswith('-packages')]"
    env = {"GDB": str(gdb_that(tmp_path / "gdb-alone", alone))}
    root = Path(gdb_kdump.__file__).parents[1]
    words = [sys.executable, "-S", "-m", "gdb_kdump", "--run", "kps 1", str(dump.vmcore)]
    runs = [
        subprocess.run(
            words, capture_output=True, text=True, env=launcher_environment(tmp_path, env | path), check=False
        )
        for path in ({"PYTHONPATH": str(root)}, {"PYTHONPATH": f"{root}:{own}"})
    ]
    assert [run.returncode for run in runs] == [1, 0], runs
    assert "lacks python3-pyelftools and python3-tabulate" in runs[0].stderr and "init" in runs[1].stdout


def test_the_newest_dump(tmp_path: Path, dump: LabDump) -> None:
    for name, day in (("202611221849/dump.202611221849", 2), ("127.0.0.1-2026/vmcore", 3), ("vmcore", 1)):
        path = tmp_path / "crash" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dump.vmcore, path)
        os.utime(path, (day, day))
    (tmp_path / "crash" / "vmcore-dmesg.txt").write_text("Linux version\n")
    folder, newest = str(tmp_path / "crash"), str(tmp_path / "crash/127.0.0.1-2026/vmcore")
    run = run_launcher(tmp_path, folder)
    assert run.status == 1 and run.errors == [
        f"gdb-kdump: no dump is named: --yes takes the newest one in {folder}, {newest}"
    ]
    document = run_launcher(tmp_path, "--yes", "--run", "kinfo", "--json", folder).json()
    assert document["vmcore"] == newest
    empty = tmp_path / "empty"
    empty.mkdir()
    run = run_launcher(tmp_path, "--yes", str(empty))
    assert run.status == 1 and f"there is none in {empty}" in run.stderr


def test_the_first_screen_and_the_prompt(tmp_path: Path, dump: LabDump) -> None:
    (tmp_path / "vmcore").symlink_to(dump.vmcore)
    command = [sys.executable, "-m", "gdb_kdump", "."]
    env = launcher_environment(tmp_path, {"TERM": "xterm", "COLUMNS": None})
    with Terminal(command, 200, 120, env, tmp_path) as terminal:
        terminal.wait_for(r"^The newest dump in \. is vmcore, .* Open it\? \[y/N\]")
        terminal.type("y\n")
        terminal.wait_for(r"^\(gdb\)$")
        assert "skb_release_data" in "\n".join(terminal.lines)
        terminal.type("kps 1\n")
        terminal.wait_for(r"^ +1 .*init$")
        terminal.type("\x03")  # Ctrl-C is GDB's, and does not end the launcher
        terminal.wait_for(r"Quit")
        terminal.type("quit\n")
        terminal.wait_for(r"Quit anyway\? \(y or n\)")
        terminal.type("y\n")
        assert terminal.end() == 0
