"""What this kernel's types say of modules: one question each."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import find_path


def module_regions(layout: Layout) -> list[tuple[int, int]]:
    """The memory regions of a struct module: byte offsets of each one's base (pointer) and size (u32), text first.

    ac3b43283923 (v6.4) module: replace module_layout with module_memory;
    7523e4dc5057 (v4.5) module: use a structure to encapsulate layout.
    """
    memory = layout.find_member("module.mem")
    if memory is not None:
        low, high = memory.type.strip_typedefs().range()
        base, size = layout.offset("module_memory.base"), layout.offset("module_memory.size")
        starts = [memory.offset + index * layout.size("module_memory") for index in range(high - low + 1)]
        return [(start + base, start + size) for start in starts]
    if layout.find_member("module.core_layout") is not None:
        base, size = layout.offset("module_layout.base"), layout.offset("module_layout.size")
        starts = [layout.offset("module.core_layout"), layout.offset("module.init_layout")]
        return [(start + base, start + size) for start in starts]
    return [
        (layout.offset("module.module_core"), layout.offset("module.core_size")),
        (layout.offset("module.module_init"), layout.offset("module.init_size")),
    ]


def module_text(layout: Layout) -> list[tuple[int, int]]:
    """Where a struct module has code: byte offsets of each area's base (pointer) and size (u32); see module_regions."""
    regions = module_regions(layout)
    kinds = layout.enumerators("mod_mem_type")
    if kinds:
        return [regions[kinds[name]] for name in ("MOD_TEXT", "MOD_INIT_TEXT") if name in kinds]
    if layout.find_member("module.core_layout") is not None:
        size = layout.offset("module_layout.text_size") - layout.offset("module_layout.base")
        return [(base, base + size) for base, _ in regions]
    sizes = layout.offset("module.core_text_size"), layout.offset("module.init_text_size")
    return [(base, size) for (base, _), size in zip(regions, sizes)]


def module_section(layout: Layout) -> tuple[int, int, int]:
    """An element of module_sect_attrs.attrs: its size, and the offsets of its name (char *) and of its address.

    4b2c11e4aaf7 (v6.14) module: sysfs: Drop member 'module_sect_attr::address' put it into bin_attribute.private;
    34f5ec0f8252 (v6.14) module: sysfs: Drop 'struct module_sect_attr' made it an array of bin_attributes.
    """
    element = layout.member("module_sect_attrs.attrs").type.strip_typedefs().target()
    offsets = []
    for name, paths in (("name", ("battr.attr.name", "attr.name", "name")), ("address", ("address", "private"))):
        member = next((m for m in (find_path(element, path) for path in paths) if m is not None), None)
        if member is None:
            raise MissingDebugInfo(f"member {name} of a module's section", paths)
        offsets.append(member.offset)
    return element.sizeof, offsets[0], offsets[1]
