"""Print the folder of this interpreter's shared library, or nothing where it has none.

`cargo test` links the crate `bindings` against libpython (the wheel does not: there the interpreter
brings it). Where there is no shared library to link, the Makefile leaves that one crate out.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path


def main() -> None:
    """Print `LIBDIR` if the linker would find libpython there."""
    folder = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
    library = sysconfig.get_config_var("LDLIBRARY") or ""
    if library.endswith(".so") and (folder / library).exists():
        print(folder)


if __name__ == "__main__":
    main()
