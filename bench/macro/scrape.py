"""O1: a scrape of the near proxy's metrics, after connections to ten thousand services through it."""

from __future__ import annotations

import http.client
import statistics
import time
from typing import TYPE_CHECKING

from bench.macro import mesh, usage

if TYPE_CHECKING:
    from bench.macro.block import Block

SERVICES = 10_000
SCRAPES = 15
DEADLINE = 60


def run(block: Block) -> None:
    """One label set for each service, then the scrapes."""
    if block.direct:
        return
    count = block.many(SERVICES)
    more = {"parallel": 32, "count": count, "spread": count, "seconds": 120}
    visit = block.words("fresh", to=mesh.SERVICE_ADDRESS, port=mesh.SERVICE_PORT, **more)
    cpu = block.pair.cpu()
    visited = block.load.run(visit, 120)
    block.note_cpu("a connection with labels of its own, CPU µs", block.pair.cpu() - cpu, count)
    if not visited["all"]:
        raise RuntimeError(f"{visited['failed']} of {count} failed: {visited['failure']}")
    pid, namespace = block.pair.near.process.pid, block.site.bed.near
    times, cpus, body = [], [], b""
    for _ in range(SCRAPES):
        cpu, begin = usage.cpu_seconds([pid]), time.perf_counter()
        body = namespace.call(_get)
        times.append(time.perf_counter() - begin)
        cpus.append(usage.cpu_seconds([pid]) - cpu)
    opened = sum(
        line.startswith(b"istio_tcp_connections_opened_total{") for line in body.splitlines()
    )
    block.keep("scrape", {"seconds": times, "cpu": cpus, "bytes": len(body), "opened": opened})
    block.note("label sets of one family", opened)
    block.note("a scrape, ms", statistics.median(times) * 1000)
    block.note("a scrape, CPU ms", statistics.median(cpus) * 1000)
    block.note("a scrape, MiB", len(body) / 2**20)


def _get() -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", mesh.STATS_PORT, timeout=DEADLINE)
    try:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"/metrics answers {answer.status}")
        return answer.read()
    finally:
        connection.close()
