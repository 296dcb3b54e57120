"""`ztunnel demo`: hands over to `ztunnel.demo`, which is loaded by nobody else."""

from __future__ import annotations

import argparse
import importlib

DEFAULT_SIZE = 200
# Less would fit into the buffers on its way, and nothing could be cut in the middle of it.
SMALLEST_SIZE = 48
LARGEST_SIZE = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the demo can be told."""
    parser.epilog = (
        "example:\n"
        "  ztunnel demo --keep\n\n"
        "Ends with 0 only if each step held, with 1 and the step's name otherwise. Everything it makes is in a\n"
        "temporary folder and on addresses of 127.90.0.0/16 (--root: in two network namespaces), and is gone\n"
        "at the end, also after Ctrl-C."
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave it running and print commands to try"
    )
    parser.add_argument(
        "--root",
        action="store_true",
        help="across two network namespaces, with traffic captured by iptables; needs root",
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=DEFAULT_SIZE,
        metavar="MIB",
        help=f"of the file that is transferred (default: {DEFAULT_SIZE}, at least {SMALLEST_SIZE})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Plays the demo; 0 only if each of its steps held."""
    demo = importlib.import_module("ztunnel.demo")
    return int(demo.run(keep=arguments.keep, root=arguments.root, size=arguments.size))


def _size(text: str) -> int:
    if not text.isdecimal() or not SMALLEST_SIZE <= int(text) <= LARGEST_SIZE:
        raise argparse.ArgumentTypeError(
            f"not a number from {SMALLEST_SIZE} to {LARGEST_SIZE}: {text}"
        )
    return int(text)
