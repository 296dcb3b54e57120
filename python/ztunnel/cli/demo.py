"""`ztunnel demo`: hands over to `ztunnel.demo`, which is loaded by nobody else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the demo can be told."""
    parser.epilog = "example:\n  ztunnel demo --keep"
    parser.add_argument(
        "--keep", action="store_true", help="leave it running and print commands to try"
    )
    parser.add_argument("--root", action="store_true", help="in two network namespaces; needs root")


def run(arguments: argparse.Namespace) -> int:
    """Plays the demo; 0 only if each of its steps held."""
    demo = importlib.import_module("ztunnel.demo")
    return int(demo.run(keep=arguments.keep, root=arguments.root))
