"""S1: from start to ready, what an idle pair holds, and how long an end takes with connections open."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from bench.macro import idle
from bench.macro.load import GRACE, line

if TYPE_CHECKING:
    from bench.macro.block import Block

CONNECTIONS = 1000
DRAIN_DEADLINE = 30.0


def run(block: Block) -> None:
    """Ready, resident, drained."""
    if block.direct:
        return
    slower = max(proxy.ready_after for proxy in block.pair.proxies)
    block.note("start to ready (the slower end), ms", slower * 1000)
    block.note("resident pair, MiB", idle.settled(block).resident / 2**20)
    near, count = block.pair.near, block.many(CONNECTIONS)
    with block.load.client(block.words("idle", count=count, parallel=16)) as client:
        line(client)
        begin = time.monotonic()
        near.process.send_signal(signal.SIGTERM)
        client.communicate(timeout=GRACE)  # which closes its input: it leaves
        near.process.wait(DRAIN_DEADLINE)
    block.note("SIGTERM to the end, clients leaving at once, ms", (time.monotonic() - begin) * 1000)
