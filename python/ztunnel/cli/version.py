"""`ztunnel version`: what this program was built from, in upstream's words."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from ztunnel import __version__
from ztunnel.cli import EXIT_FAILURE, EXIT_OK
from ztunnel.errors import NativeModuleMissing

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json`; further ones are ignored, as upstream does."""
    parser.epilog = "example:\n  ztunnel version --json"
    parser.add_argument("--json", action="store_true", help="as `/config_dump` has it")


def run(arguments: argparse.Namespace) -> int:
    """Prints; 1 if the compiled half is missing or is another version's."""
    from ztunnel.version import build_info, one_line

    try:
        from ztunnel.dataplane.native import native_version

        info = build_info(os.environ.get("ISTIO_META_ISTIO_VERSION"))
    except NativeModuleMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILURE
    print(json.dumps(info) if arguments.json else one_line(info))
    if native_version() != __version__:
        message = f"the compiled half is of another version than {__version__}: {native_version()}"
        print(f"error: {message}; run `make build`", file=sys.stderr)
        return EXIT_FAILURE
    return EXIT_OK
