"""`ztunnel run FILE`: a node, until a signal ends it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.cli.failure import or_failure

if TYPE_CHECKING:
    import argparse

    from ztunnel.identity.ca.child import Child

# As near to the start of the program as Python lets us look.
STARTED = time.monotonic()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`FILE` and how to log."""
    parser.epilog = (
        "example:\n"
        "  ztunnel run examples/first_tunnel/node-a.yaml\n\n"
        "SIGTERM or Ctrl-C drains the node (`drain:` in the file) and ends it; a second Ctrl-C ends it at once.\n"
        "The access log goes to standard output, everything else to standard error."
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the node file (YAML)")
    parser.add_argument(
        "--log-format",
        choices=("plain", "json"),
        default="plain",
        help="of the lines on standard error",
    )
    parser.add_argument(
        "--log-level",
        choices=("trace", "debug", "info", "warn", "error"),
        help="of the lines on standard error (default: `logLevel` in the file, else info)",
    )
    parser.add_argument(
        "--debuggable",
        action="store_true",
        help="let debuggers and profilers of the same user look into the node, and leave cores: private keys are in both",
    )
    parser.add_argument(
        "--log-template",
        choices=("envoy",),  # `settings.TEMPLATES`, which takes its time to load
        help="of the access log's lines: as Envoy's under Istio, each beginning with `[` (default: `accessLog` in the file)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the node; 1 if it cannot start."""
    # First of all: its imports take as long as ours, and go on beside them (see identity/ca/child.py).
    from ztunnel.identity.ca.child import Child

    child = Child()
    try:
        return or_failure(lambda: _serve(arguments, child))
    finally:
        child.end()


def _serve(arguments: argparse.Namespace, child: Child) -> int:
    import asyncio

    from ztunnel.app import Node, real_parts
    from ztunnel.cli.secrets import keep_out
    from ztunnel.nodefile import load_node_file
    from ztunnel.telemetry import log

    file = load_node_file(arguments.file)
    log.set_up(style=arguments.log_format, level=arguments.log_level or file.settings.log_level)
    if not arguments.debuggable:
        keep_out()
    access_log = file.settings.access_log.in_template(arguments.log_template)
    settings = replace(file.settings, access_log=access_log)
    node = Node(settings, file.identity, file.mesh, real_parts(child), started=STARTED)
    return asyncio.run(node.run())
