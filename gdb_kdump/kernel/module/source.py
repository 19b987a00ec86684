"""What stands at a text address: the function, those inlined there, and their source lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

import gdb

from gdb_kdump.debuginfo.elf import without_llvm
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.generated import Generated, GeneratedCode
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.symbols import ModuleSymbols
from gdb_kdump.session import Session

_LARGEST_FUNCTION = 1 << 16  # bytes; the parts that gcc moves away go to another section (.text.unlikely)
_NAME = re.compile(r"<(.+?)(?:\+(\d+))?>$")


@dataclass(frozen=True)
class SourceFrame:
    """One function at an address: `offset` (bytes) from its ELF symbol, None for one `inlined` in what follows."""

    function: str | None
    offset: int | None
    file: str | None
    line: int | None
    inlined: bool
    module: str | None = None
    part: str = ""
    """What the compiler has put after the function's name in the symbol that `offset` counts from: ".cold"."""

    @property
    def place(self) -> str:
        """`function.part+offset`, or what of that is known."""
        offset = f"+{self.offset:#x}" if self.offset is not None else ""
        return f"{self.function or '?'}{self.part}{offset}"


class Source:
    """Looks addresses up in one session's debug information; each address once."""

    def __init__(self, session: Session) -> None:
        self._debuginfo = session.debuginfo
        self._void_pointer = session.debuginfo.type("void").pointer()
        self._modules = session.once(Modules)
        self._module_symbols = session.once(ModuleSymbols)
        self._find_generated = session.once(GeneratedCode).find
        self._image = session.debuginfo.image()
        self._code = session.debuginfo.code()
        self._frames: dict[int, tuple[SourceFrame, ...]] = {}

    def frames(self, pc: int, is_return_address: bool = False) -> tuple[SourceFrame, ...]:
        """The functions at text address `pc`, innermost inlined one first, the real one last.

        A return address stands after the call that it belongs to: the lines are those of the call then.
        """
        looked_up = pc - 1 if is_return_address else pc
        if looked_up not in self._frames:
            self._frames[looked_up] = tuple(self._look_up(pc, looked_up))
        return self._frames[looked_up]

    def _look_up(self, pc: int, looked_up: int) -> list[SourceFrame]:
        if not self.is_text(looked_up):
            return [SourceFrame(None, None, None, None, False)]
        module = None if self.in_kernel(looked_up) else self._modules.find(looked_up)
        name: str | None
        offset: int | None
        if module is not None:
            self._module_symbols.load(module)
            name, offset = self._symbol_in(module, looked_up)
        elif (generated := self.find_generated(looked_up)) is not None:
            name, offset = generated.name, looked_up - generated.start
        else:
            name, offset = self._label(looked_up) if self.is_assembly(looked_up) else self._symbol_of_part(looked_up)
        if offset is not None:
            offset += pc - looked_up
        module_name = module.name if module else None
        where = gdb.find_pc_line(looked_up)
        file, line = _file(where.symtab), where.line or None
        frames: list[SourceFrame] = []
        for function, is_inlined in () if self.is_assembly(looked_up) else _functions(looked_up):
            if not is_inlined:
                part = _part(function.name, name)
                return [*frames, SourceFrame(function.name, offset, file, line, False, module_name, part)]
            frames.append(SourceFrame(function.name, None, file, line, True, module_name))
            # For an inlined function GDB keeps the place of the call, not of the declaration.
            file, line = _file(function.symtab), function.line
        frames.append(SourceFrame(name, offset, file, line, False, module_name))
        return frames

    def load_symbols(self, addr: int) -> None:
        """Have GDB know the symbols of the module that an address lies in, if it lies in one."""
        module = None if self.in_kernel(addr) else self._modules.find(addr)
        if module is not None:
            self._module_symbols.load(module)

    def in_kernel(self, addr: int) -> bool:
        """Whether an address lies in the kernel's own image, not in a module."""
        return self._image[0] <= addr < self._image[1]

    def is_assembly(self, addr: int) -> bool:
        """Whether an address lies in code of the kernel that was not written in C: entry code, mostly."""
        if not self.in_kernel(addr):
            return False
        where = gdb.find_pc_line(addr).symtab
        # The assembler may describe its labels as functions, too: since binutils 2.35.
        return not _functions(addr) or (where is not None and where.filename.endswith((".S", ".s")))

    def function_bounds(self, addr: int) -> tuple[int, int] | None:
        """The first address of the function that an address lies in, and the one after it; None where none is known.

        For a module without debug information the end is the address itself.
        """
        generated = self.find_generated(addr)
        if generated is not None:
            return generated.start, generated.end
        block, outermost = gdb.block_for_pc(addr), None
        while block is not None and not block.is_static and not block.is_global:
            outermost = block if block.function is not None else outermost
            block = block.superblock
        if outermost is not None:
            return outermost.start, outermost.end
        module = None if self.in_kernel(addr) else self._modules.find(addr)
        name, offset = self.symbol(addr) if module is None else self._symbol_in(module, addr)
        return None if name is None or offset is None else (addr - offset, addr)

    def is_text(self, addr: int) -> bool:
        """Whether an address lies in the kernel's code, in that of a module, or in code that the kernel has made.

        Data is none: the stack of the first idle task stands in the image, and modules have variables.
        """
        if self.in_kernel(addr):
            return any(low <= addr < high for low, high in self._code)
        return self._modules.has_code(addr) or self._find_generated(addr) is not None

    def find_generated(self, addr: int) -> Generated | None:
        """The code made by the kernel that an address outside of its text and modules lies in, or None."""
        if self.in_kernel(addr) or self._modules.find(addr) is not None:
            return None
        return self._find_generated(addr)

    def find_symbol_outside(self, addr: int) -> str | None:
        """`function+offset [module]` for an address in a module, `name+offset` in code made by the kernel, or None."""
        module = self._modules.find(addr)
        if module is None:
            generated = self.find_generated(addr)
            return None if generated is None else f"{generated.name}+{addr - generated.start:#x}"
        name, offset = self._symbol_in(module, addr)
        return f"{name}+{offset:#x} [{module.name}]"

    def _symbol_of_part(self, addr: int) -> tuple[str | None, int | None]:
        """The same as symbol(), but of a part that stands elsewhere than its function, from which GDB counts."""
        name, offset = self.symbol(addr)
        if offset is None or offset < _LARGEST_FUNCTION:
            return name, offset
        label, past = self._label(addr)
        return (label, past) if label is not None and label.startswith(f"{name}.") else (name, offset)

    def _label(self, addr: int) -> tuple[str | None, int | None]:
        """The last label before an address of entry code; GDB has only the function around it."""
        symbol = self._debuginfo.symbol_before(addr)
        return (None, None) if symbol is None else (symbol[0], addr - symbol[1])

    def _symbol_in(self, module: Module, addr: int) -> tuple[str, int]:
        try:
            symbol = self._modules.find_symbol(module, addr)
        except (Unreadable, Corrupt, MissingDebugInfo):
            symbol = None
        return symbol or (f"[{module.name}]", addr - module.base)

    def symbol(self, addr: int) -> tuple[str | None, int | None]:
        """The ELF symbol that an address lies in and the offset from it (bytes), or None and None."""
        text = gdb.Value(addr).cast(self._void_pointer).format_string(format="a")
        label = _NAME.search(text)
        return (without_llvm(label[1]), int(label[2] or 0)) if label else (None, None)


def _part(function: str, symbol: str | None) -> str:
    """The end of a symbol's name by which gcc tells a function's copies, and parts that it has moved away."""
    return symbol[len(function) :] if symbol is not None and symbol.startswith(f"{function}.") else ""


def _functions(pc: int) -> list[tuple[gdb.Symbol, bool]]:
    block = gdb.block_for_pc(pc)
    functions = []
    while block is not None and not block.is_static and not block.is_global:
        if block.function is not None:
            functions.append(block.function)
        block = block.superblock
    return [(function, number < len(functions) - 1) for number, function in enumerate(functions)]


def _file(symtab: gdb.Symtab | None) -> str | None:
    """A file's name from the top of the kernel tree; that of assembly has the folder that it was built in, too."""
    if symtab is None:
        return None
    name = symtab.filename
    return name[name.rindex("/arch/") + 1 :] if name.startswith("/") and "/arch/" in name else name
