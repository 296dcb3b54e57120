"""`ztunnel proxy ztunnel` on loopback addresses of a test's own, beside others: run as a program.

The ports of a pod are upstream's and fixed, and one machine has them once. Everything but where it listens is the
real thing. Started by `control_plane.py`; in namespaces nobody needs this (`tests/netns/proxies.py`).
"""

from __future__ import annotations

import json
import os
import sys

from ztunnel.cli import main
from ztunnel.environment import proxy
from ztunnel.settings import Listen

LISTEN = "TEST_LISTEN"
OUTPUT = "TEST_OUTPUT"
"""A file that takes everything that is written to standard output and error."""


def run() -> int:
    """Until it ends; gives the exit code."""
    if output := os.environ.pop(OUTPUT, None):
        opened = os.open(output, os.O_WRONLY)
        os.dup2(opened, sys.stdout.fileno())
        os.dup2(opened, sys.stderr.fileno())
    told = json.loads(os.environ.pop(LISTEN))
    admin = (told.pop("admin"),)
    proxy._listen = lambda config: Listen(admin=admin, **told)
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
