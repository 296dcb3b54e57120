"""`ztunnel check FILE…`: every mistake with its place, as compilers print them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.cli import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    import argparse

    from ztunnel.local.schema import MeshDocument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`FILE`, one or more."""
    parser.epilog = (
        "example:\n"
        "  ztunnel check examples/two_hosts.yaml\n\n"
        "Prints `file:line:column: path: what is wrong` for each mistake and ends with 1 if there was one.\n"
        "Warnings do not count."
    )
    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="a node file or a mesh file (YAML)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Checks each file; 1 if any has a mistake."""
    good = [_check(path) for path in arguments.files]
    return EXIT_OK if all(good) else EXIT_FAILURE


def _check(path: Path) -> bool:
    from ztunnel.errors import InvalidFile
    from ztunnel.nodefile import NodeFile, load_any_file

    try:
        found = load_any_file(path)
    except InvalidFile as error:
        for line in error.lines():
            print(line)
        print(f"error: {error}", file=sys.stderr)
        return False
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or path}", file=sys.stderr)
        return False
    mesh, place = (
        (found.mesh.document, found.mesh.path) if isinstance(found, NodeFile) else (found, path)
    )
    for problem in mesh.warnings:
        print(
            f"{place}:{problem.line}:{problem.column}: warning: {problem.path}: {problem.message}"
        )
    print(f"{path}: {_summary(mesh)}")
    return True


def _summary(mesh: MeshDocument) -> str:
    from ztunnel.dataplane.handle import TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD

    counts = (
        (mesh.count(TYPE_WORKLOAD), "workload", "workloads"),
        (mesh.count(TYPE_SERVICE), "service", "services"),
        (mesh.count(TYPE_AUTHORIZATION), "policy", "policies"),
    )
    return "good: " + ", ".join(
        f"{count} {one if count == 1 else many}" for count, one, many in counts
    )
