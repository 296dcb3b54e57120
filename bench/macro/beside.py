"""L3: one connection's round trips beside a bulk stream, both in one tunnel.

Which tunnel a connection takes is seen from outside, by the byte counts of the near side's connections
to 15008 (`ss -i`): the load generator sends 64 KiB on one connection, then on another, and opens others
until both show in the same place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.macro import tunnels
from bench.macro.load import GRACE, line, result, tell

if TYPE_CHECKING:
    import subprocess

    from bench.macro.block import Block

ATTEMPTS = 40
# Half of what a probe sends: keep-alives and acknowledgements are far below.
SEEN = 32 * 1024
SEEN_WITHIN = 1.0


def run(block: Block) -> None:
    """Find two that share a tunnel, then measure."""
    before = tunnels.sent(block)
    words = block.words("beside", seconds=block.seconds)
    with block.load.client(words) as client:
        _step(client, "bulk")
        bulk, before = _grown(before, block)
        tell(client, "")
        shared = False
        for _ in range(ATTEMPTS):
            _step(client, "probe")
            probe, before = _grown(before, block)
            shared = bool(bulk) and bulk == probe
            if shared or block.direct or len(before) < 2:
                break
            tell(client, "again")
        cpu = block.pair.cpu()
        tell(client, "go")
        found = result(client, block.seconds + GRACE)
        cpu = block.pair.cpu() - cpu
    block.keep("beside", found, cpu=cpu, shared=float(shared))
    micros, bulk_found = found["rtt"]["micros"], found["bulk"]
    if not block.direct:
        block.note("tunnel shared (1 is yes)", float(shared))
    block.note("p50 µs", micros["p50"])
    block.note("p99 µs", micros["p99"])
    block.note("bulk meanwhile, Gbit/s", bulk_found["bytes"] * 8 / bulk_found["seconds"] / 1e9)


def _grown(before: dict[str, int], block: Block) -> tuple[set[str], dict[str, int]]:
    """The tunnels in which much was sent since, and the counts now."""
    deadline = time.monotonic() + SEEN_WITHIN
    while True:
        now = tunnels.sent(block)
        ports = {port for port, sent in now.items() if sent - before.get(port, 0) > SEEN}
        if ports or block.direct or time.monotonic() > deadline:
            return ports, now
        time.sleep(0.01)


def _step(client: subprocess.Popen[str], wanted: str) -> None:
    if (said := line(client)).get("step") != wanted:
        raise RuntimeError(f"the load generator says {said!r}, not {wanted}")
