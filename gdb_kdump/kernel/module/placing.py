"""Where the sections of a module's file lie in the dump, from what the dump has of their names and addresses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gdb_kdump.debuginfo.module_image import ModuleImage
from gdb_kdump.errors import Corrupt, DumpError, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.sysfs import ModuleSysfs
from gdb_kdump.session import Session

_THIS_MODULE = ".gnu.linkonce.this_module"


@dataclass(frozen=True)
class Placed:
    """The addresses of sections by name, and how they are known where the dump itself does not say it all."""

    sections: dict[str, int]
    how: str = ""


def place(session: Session, module: Module, image: ModuleImage) -> Placed:
    """Where the sections of a module's file lie; raises DumpError where that cannot be told.

    Names and addresses are kept in slab objects, which an old makedumpfile leaves out of the dump of a new kernel.
    """
    try:
        attributes = session.once(ModuleSysfs).sections(module)
    except (Unreadable, MissingDebugInfo):
        attributes = []
    if attributes and all(name is not None for name, _ in attributes):
        return Placed({name: addr for name, addr in attributes if name is not None})
    made_up = _by_order(module, image, attributes)
    if made_up is not None:
        return Placed(made_up, "the dump lacks names of its sections: they are the file's, in its order")
    return Placed(by_symbols(session, module, image), "the dump lacks its sections: they are where its symbols are")


def _by_order(module: Module, image: ModuleImage, attributes: list[tuple[str | None, int]]) -> dict[str, int] | None:
    """Names for addresses in the order of the file; None where the two do not fit together."""
    expected = image.loaded_sections()
    if not attributes or len(expected) != len(attributes):
        return None
    for section, (name, addr) in zip(expected, attributes):
        if name not in (None, section.name) or addr % section.alignment:
            return None
    sections = {section.name: addr for section, (_, addr) in zip(expected, attributes)}
    return sections if sections.get(_THIS_MODULE) == module.addr else None


def by_symbols(session: Session, module: Module, image: ModuleImage) -> dict[str, int]:
    """The addresses of a file's sections, from those that its symbols have in the dump; of sections that have any.

    Raises DumpError when the dump has a symbol that the file lacks, or has at another distance: the file is of another
    build.  A name that several symbols have tells nothing.
    """
    try:
        loaded = session.once(Modules).symbols_of(module)
    except (Unreadable, Corrupt, MissingDebugInfo) as error:
        raise DumpError(str(error)) from error
    symbols = list(image.symbols())
    counts = Counter(name for _, name, _ in symbols)
    places = {name: (section, offset) for section, name, offset in symbols if counts[name] == 1}
    times = Counter(name for name, _ in loaded)
    sections: dict[str, int] = {}
    for name, addr in loaded:
        if times[name] > 1 or counts[name] > 1:
            continue
        section, offset = places.get(name, ("", 0))
        if not section or sections.setdefault(section, addr - offset) != addr - offset:
            raise DumpError(f"the file has not the symbols of module {module.name} where the dump has them")
    if not sections:
        raise DumpError("neither its sections nor its symbols are in the dump")
    return sections
