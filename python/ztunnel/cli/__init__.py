"""The command line: one file for each verb, loaded when that verb is called.

argparse, not typer or click with rich: those take 60–150 ms and 10–20 MiB to import, and a node has 350 ms
and 40 MiB in all.

The words and their rules are upstream's where it has them (spec/control.md §1): `proxy`, `version`, `help`.
Exit codes: 0 it went well, 1 it did not, 2 the arguments of a verb were not understood.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol, cast

from ztunnel import __version__
from ztunnel.cli.early import ends_at_sigterm

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK = 0
EXIT_FAILURE = 1

VERBS = {
    "run": "run a node from its file",
    "proxy": "run a proxy from upstream's environment variables",
    "check": "list every mistake in a node or mesh file",
    "demo": "show two nodes at work on this machine",
    "version": "print what this program was built from",
}

_OPTIONS = ("-h", "--help", "--version")
_LENIENT = ("proxy", "version")
# These serve until they are told to end.
_SERVING = ("run", "proxy")


class Verb(Protocol):
    """What each module of this package offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describes the verb's arguments, with an example in the epilog."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Does it; gives the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Without a word it is a proxy, as upstream is (spec/control.md §1)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    named = argv[0] if argv else "proxy"
    if named == "help":
        return _help()
    if named not in VERBS and named not in _OPTIONS:
        print(f"unknown command: {named}", file=sys.stderr)
        _help()
        return EXIT_FAILURE
    with ends_at_sigterm() if named in _SERVING else nullcontext():
        return _call(named, argv)


def _call(named: str, argv: list[str]) -> int:
    """Calls a verb with its arguments, or does what an option asks for."""
    parser = _parser(named)
    # Whatever else stands behind upstream's two verbs is ignored there as well.
    if named in _LENIENT:
        arguments = parser.parse_known_args(argv or [named])[0]
    else:
        arguments = parser.parse_args(argv)
    arguments.argv = argv
    try:
        return _verb(arguments.verb).run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`ztunnel check … | head`): nothing to say and nobody to hear it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _help() -> int:
    _parser(None).print_help()
    return EXIT_OK


def _parser(named: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of the named verb only: the others' modules are not loaded."""
    parser = argparse.ArgumentParser(
        prog="ztunnel",
        description="A service-mesh node proxy: mutual TLS, HBONE tunnels and L4 policy.",
        epilog="`ztunnel help` prints this; without a word, ztunnel is a proxy.\n\n"
        "example:\n  ztunnel check node.yaml && ztunnel run node.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ztunnel {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for name, summary in VERBS.items():
        one = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == named:
            _verb(name).add_arguments(one)
    return parser


def _verb(name: str) -> Verb:
    return cast("Verb", importlib.import_module(f"ztunnel.cli.{name}"))
