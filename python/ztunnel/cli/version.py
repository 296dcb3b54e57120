"""`ztunnel version`: of the package, the compiled half and the interpreter."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from ztunnel import __version__
from ztunnel.cli import EXIT_FAILURE, EXIT_OK
from ztunnel.errors import NativeModuleMissing

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""
    parser.epilog = "example:\n  ztunnel version"


def run(arguments: argparse.Namespace) -> int:
    """Prints; 1 if the compiled half is missing or is another version's."""
    del arguments
    print(f"ztunnel {__version__} (Python {platform.python_version()}, {platform.machine()})")
    try:
        from ztunnel.dataplane.native import native_version

        native = native_version()
    except NativeModuleMissing as error:
        print(f"data plane: {error}")
        return EXIT_FAILURE
    print(f"data plane {native}")
    return EXIT_OK if native == __version__ else EXIT_FAILURE
