"""Small C programs compiled with debug information: types for gdb to look up, code for it to unwind."""

from __future__ import annotations

import subprocess
from pathlib import Path


def compile_program(folder: Path, source: str, *options: str) -> Path:
    """Compile and link C `source` in `folder`; returns the ELF file's path.  A `main` is added where there is none."""
    if "main(" not in source:
        source += "\nint main(void) { return 0; }\n"
    (folder / "program.c").write_text(source)
    program = folder / "program"
    # Types that no code uses are part of what is tested.
    flags = ["-g", "-gdwarf-5", "-fno-eliminate-unused-debug-types", "-Wall", "-Wno-unused"]
    subprocess.run(["gcc", *flags, *options, "-o", program, "program.c"], cwd=folder, check=True)
    return program
