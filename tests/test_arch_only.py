"""What a machine decides stands in `arch/` alone: read from the sources with `ast`.

The names are those of the architectures themselves, so that another one is looked for, too, once it is there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from test_layers import NAMES, parse, ring

from gdb_kdump.arch.architecture import ARCHITECTURES

OUTSIDE = [module for module in NAMES if ring(module) != "arch"]

# `pc` and `sp` are everybody's words; the others of two letters are words of C, too, and count as whole strings.
REGISTERS = {register.name for arch in ARCHITECTURES for register in arch.registers.all} - {"pc", "sp"}
SHORT = {name for name in REGISTERS if len(name) == 2 and name.isalpha()}
MACHINES = {arch.name for arch in ARCHITECTURES} | {arch.registers.gdb_name for arch in ARCHITECTURES}
ELF_MACHINES = {arch.elf_machine for arch in ARCHITECTURES}
# Structs, variables and labels of a machine's own code, as far as unwinding and address translation know them.
SYMBOLS = re.compile(
    r"orc_|inactive_task_frame|pt_regs\.\w|ret_from_fork|__switch_to|thread_return|call_softirq|error_entry|sysvec|"
    r"\basm_|entry_SYSCALL|system_call|sysret|cea_exception_stacks|page_offset_base|vmemmap_base|phys_base|"
    r"init_top_pgt|init_level4_pgt|pgtable_l5|\bsme_|pcpu_hot|current_task|START_KERNEL"
)

# Where such a thing may stand all the same: module, what, and why.
EXEMPT: dict[tuple[str, str], str] = {
    ("gdb_kdump.channel.spawn", "rsp"): "the protocol's name, of a socket",
    ("gdb_kdump.commands.shinfo", "r12"): "an example of what the user may say",
    ("gdb_kdump.dump.dump", "phys_base"): "libkdumpfile's attribute linux.phys_base",
    ("gdb_kdump.formats.flattened", "fstat"): "the system call, not the register of the x87",
}
TABLE = "gdb_kdump.layout.table"  # rows of names that only some machines have
REFUSED = ("gdb_kdump.formats.elf_core", "_MACHINES")  # the names of machines that are refused

# Powers of two that are no page's size: module, and the constant or function that has it.
NO_PAGE = {
    ("gdb_kdump.records.runs", "UNIT"),  # no machine has smaller pages
    ("gdb_kdump.text", "_MAX_ERRNO"),
    ("gdb_kdump.channel.client", "_STDERR_TAIL"),
    ("gdb_kdump.channel.wire", "MAX_BODY"),
    ("gdb_kdump.channel.wire", "MAX_NODE"),
    ("gdb_kdump.channel.wire", "MAX_NODES"),
    ("gdb_kdump.dump.preflight", "_HEAD_BYTES"),
    ("gdb_kdump.formats.strangers", "_BLOCK"),
    ("gdb_kdump.formats.flattened", "_FLAT_HEADER"),
    ("gdb_kdump.formats.page_bitmap", "_STEP"),
    ("gdb_kdump.kernel.mm.slub", "_MAX_PAGES"),
    ("gdb_kdump.kernel.module.sysfs", "_LONGEST_NOTE"),
    ("gdb_kdump.kernel.sched.tasks", "_TASK_RTLOCK_WAIT"),
    ("gdb_kdump.layout.mm", "_FIXED_SLAB_FLAGS"),
    ("gdb_kdump.layout.mm", "page_types"),
}
PAGE_SHIFT, PAGE_SIZE = 12, 4096


def statements(module: str) -> Iterator[tuple[str, ast.stmt]]:
    """The statements of a module with what each defines: a constant, a function, a class, or nothing."""
    for statement in parse(module).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        name = target.id if isinstance(target, ast.Name) else getattr(statement, "name", "")
        yield name, statement


def code(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node but docstrings."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield child
            yield from code(child)


def words(module: str) -> Iterator[tuple[int, str]]:
    """Every name and every string of a module, with its line; not the names of modules that it imports."""
    for name, statement in statements(module):
        if (module, name) == REFUSED or isinstance(statement, (ast.Import, ast.ImportFrom)):
            continue
        for node in code(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node, ast.Name):
                yield node.lineno, node.id
            elif isinstance(node, ast.Attribute):
                yield node.lineno, node.attr
            elif isinstance(node, (ast.arg, ast.keyword)):
                yield node.lineno, node.arg or ""


def of_a_machine(word: str) -> set[str]:
    """What in a name or string only one machine has."""
    registers = {word} & REGISTERS | {*re.findall(r"\w+", word)} & (REGISTERS - SHORT)
    machines = {name for name in MACHINES if name in word}
    return registers | machines | {found[0] for found in SYMBOLS.finditer(word)}


@pytest.mark.parametrize("module", [module for module in OUTSIDE if module != TABLE])
def test_no_register_machine_or_symbol_of_one_has_a_name(module: str) -> None:
    for line, word in words(module):
        found = {name for name in of_a_machine(word) if (module, name) not in EXEMPT}
        assert not found, f"{module}:{line}: {found}"


@pytest.mark.parametrize("module", OUTSIDE)
def test_no_number_of_a_machine_and_no_page_size(module: str) -> None:
    for name, statement in statements(module):
        for node in code(statement):
            if (module, name) == REFUSED:
                continue
            if isinstance(node, ast.Constant) and type(node.value) is int:
                assert node.value not in ELF_MACHINES, f"{module}:{node.lineno}: e_machine {node.value}"
                is_page = node.value in (PAGE_SIZE, PAGE_SIZE - 1)
                assert not is_page or (module, name) in NO_PAGE, f"{module}:{node.lineno}: a page's size in {name}"
            elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.LShift, ast.RShift)):
                is_page = isinstance(node.right, ast.Constant) and node.right.value == PAGE_SHIFT
                assert not is_page or (module, name) in NO_PAGE, f"{module}:{node.lineno}: a page's shift in {name}"


def test_nothing_is_exempt_in_vain() -> None:
    for module, name in EXEMPT:
        assert any(name in of_a_machine(word) for _, word in words(module)), (module, name)
    for module, name in NO_PAGE:
        assert name in {defined for defined, _ in statements(module)}, (module, name)


# Who handles DWARF's numbers of registers: they come in by a name, never as a number.
OF_DWARF = ("gdb_kdump.formats.cfi", "gdb_kdump.debuginfo.symbol_file")
DEF_CFA, UNDEFINED = 0x0C, 0x07  # the instructions that have a register's number after them
TAKES_NUMBERS = {"CallFrames": 1, "no_caller": 2}  # from which argument on


@pytest.mark.parametrize("module", OUTSIDE)
def test_no_dwarf_number_of_a_register(module: str) -> None:
    for node in ast.walk(parse(module)):
        where = f"{module}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = TAKES_NUMBERS.get(called, len(node.args))
            assert not any(isinstance(argument, ast.Constant) for argument in node.args[first:]), where
        if module not in OF_DWARF:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and node.value[:4] != b"\x7fELF":
            assert not {DEF_CFA, UNDEFINED} & {*node.value}, f"{where}: instructions that name a register by number"
        if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") in ("saved", "lost"):
            assert not isinstance(node.slice, ast.Constant), where
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("forget", "add"):
            assert not any(isinstance(argument, ast.Constant) for argument in node.args), where
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "cfa":
            for made in ast.walk(node.value):
                if isinstance(made, ast.Tuple):
                    assert isinstance(made.elts[0], (ast.Call, ast.Subscript)), f"{where}: the CFA's register"


def imports(module: str) -> Iterator[str]:
    """What a module of arch/ imports when it is imported itself, and any other one wherever in it."""
    tree = parse(module)
    nodes = tree.body if ring(module) == "arch" else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & {*NAMES}
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & {*NAMES}


def test_only_the_architecture_chooses() -> None:
    machines = {module for module in NAMES if module.startswith("gdb_kdump.arch.") and module.count(".") > 2}
    folders = {module.split(".")[2] for module in machines}
    for module in NAMES:
        own = module.split(".")[2] if module in machines else ""
        for name in imports(module):
            if name in machines and name.split(".")[2] != own:
                assert module == "gdb_kdump.arch.architecture", f"{module} imports {name}"
    assert folders == {arch.name for arch in ARCHITECTURES}


def test_the_dump_server_has_the_half_about_bytes_only() -> None:
    reached, new = set[str](), {"gdb_kdump.dump.server"}
    while new:
        reached |= new
        new = {name for module in new for name in imports(module)} - reached
    about_stacks = {"unwind", "orc", "frame_pointers", "entry_frames", "switch_frame", "prologue"}
    assert not {module for module in reached if module.startswith("gdb_kdump.arch.")} & {
        f"gdb_kdump.arch.x86_64.{name}" for name in about_stacks
    }
    rings = {ring(module) for module in reached}
    assert rings <= {"base", "records", "formats", "arch", "dump", "channel"}, rings
