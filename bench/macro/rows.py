"""What is measured: one function for each row of the table. Arithmetic on what the load generator says.

Names of figures end in their unit; whether more is better is `stats.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.macro import beside, idle, lifecycle, mesh, scrape, tunnels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.macro.block import Block

GIB = 2**30
STORM = 1000


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something to measure."""

    id: str
    title: str
    run: Callable[[Block], None]
    more: Mapping[str, str] = field(default_factory=dict)
    """For the proxies' environment."""
    warm: bool = True
    without: frozenset[str] = frozenset()
    """Peers to which the row does not apply."""
    services: int = 1
    """How many the mesh has."""


def bulk(block: Block) -> None:
    """B1: as many bytes as go through."""
    for streams in (1, 8):
        for direction in ("up", "down"):
            name = f"{streams} stream{'s' * (streams > 1)} {direction}"
            _bulk(block, name, streams=streams, dir=direction)


def passthrough(block: Block) -> None:
    """B3: the same to somebody outside the mesh. One proxy is on the way."""
    for direction in ("up", "down"):
        _bulk(block, f"1 stream {direction}", dir=direction, to=mesh.OUTSIDE_ADDRESS)


def _bulk(block: Block, name: str, **options: object) -> None:
    result, cpu = block.run(name, "bulk", **options)
    block.note(f"{name}, Gbit/s", result["bytes"] * 8 / result["seconds"] / 1e9)
    block.note_cpu(f"{name}, CPU s/GiB", cpu, result["bytes"] / GIB, micros=False)


def response(block: Block) -> None:
    """B2: 64 KiB on a connection that is new."""
    for parallel in (1, 16):
        _fresh(block, f"64 KiB, {parallel} at once", parallel=parallel, size=64 * 1024)


def connections(block: Block) -> None:
    """C1: a byte on a connection that is new."""
    for parallel in (1, 32):
        _fresh(block, f"{parallel} at once", parallel=parallel)


def own_tunnel(parallel: int) -> Callable[[Block], None]:
    """C2: the same, each kept open to the end, so that none can use another's tunnel."""

    def run(block: Block) -> None:
        before, count = len(tunnels.sent(block)), block.many(STORM)
        name = f"{parallel} at once"
        _fresh(block, name, parallel=parallel, count=count, hold=True, seconds=20)
        if not block.direct:
            made = len(tunnels.sent(block)) - before
            block.note(f"{name}, tunnels made for each", made / count)

    return run


def _fresh(block: Block, name: str, **options: object) -> None:
    result, cpu = block.run(name, "fresh", **options)
    if result["failed"] or not result["all"]:
        raise RuntimeError(f"{name}: {result['failed']} of {result['count']}: {result['failure']}")
    block.note(f"{name}, p50 µs", result["last"]["p50"])
    block.note(f"{name}, p99 µs", result["last"]["p99"])
    block.note(f"{name}, per second", result["count"] / result["seconds"])
    block.note_cpu(f"{name}, CPU µs", cpu, result["count"])


def round_trips(block: Block) -> None:
    """L1: back and forth."""
    for conns, size, text in ((1, 128, "128 B"), (64, 128, "128 B"), (16, 16384, "16 KiB")):
        name = f"{text} x {conns}"
        result, cpu = block.run(name, "rtt", conns=conns, size=size)
        block.note(f"{name}, p50 µs", result["micros"]["p50"])
        block.note(f"{name}, p99 µs", result["micros"]["p99"])
        block.note_cpu(f"{name}, CPU µs", cpu, result["count"])


def storm(block: Block) -> None:
    """C3: a thousand connections in one moment; nothing was sent before the first."""
    count = block.many(STORM)
    options = {"parallel": count, "count": count, "hold": True, "seconds": 20}
    for attempt in range(4):
        name = "first time" if attempt == 0 else f"later, {attempt}"
        result, _ = block.run(name, "fresh", **options)
        if not result["all"] or result["count"] < count:
            raise RuntimeError(f"{name}: {result['failed']} of {count} failed: {result['failure']}")
        if attempt == 0:
            block.note("first time, ms", result["seconds"] * 1000)
        else:
            block.figures.setdefault("later (best of 3), ms", float("inf"))
            best = min(block.figures["later (best of 3), ms"], result["seconds"] * 1000)
            block.note("later (best of 3), ms", best)


ONE_STREAM = {"POOL_MAX_STREAMS_PER_CONNECTION": "1"}
# A plain byte pipe has no such limit to set, and each of its connections is a tunnel of its own anyway.
NO_POOL = frozenset({"haproxy"})
# HAProxy's way out carries no mark, so that what it passes through would be captured again.
NO_MARK = frozenset({"haproxy"})
# These do not read the mesh's file.
NO_FILE = frozenset({"envoy", "haproxy"})

ROWS = (
    Row(id="B1", title="bulk through the tunnel", run=bulk),
    Row(id="B2", title="a response of 64 KiB on a fresh connection", run=response),
    Row(id="B3", title="bulk past the mesh (passthrough)", run=passthrough, without=NO_MARK),
    Row(id="L1", title="round trips", run=round_trips),
    Row(id="L3", title="128 B round trips beside a bulk stream in the same tunnel", run=beside.run),
    Row(id="C1", title="new connections on a warm tunnel", run=connections),
    Row(
        id="C2",
        title="a tunnel for each connection, 1 at once",
        run=own_tunnel(1),
        more=ONE_STREAM,
        without=NO_POOL,
    ),
    Row(
        id="C2",
        title="a tunnel for each connection, 32 at once",
        run=own_tunnel(32),
        more=ONE_STREAM,
        without=NO_POOL,
    ),
    Row(id="C3", title="1,000 connections at once", run=storm, warm=False),
    Row(id="M1", title="idle connections, fresh", run=idle.fresh),
    Row(id="M1", title="idle connections, after 1 MiB each way", run=idle.used),
    Row(id="M2", title="idle tunnels", run=idle.fresh, more=ONE_STREAM, without=NO_POOL),
    Row(
        id="O1",
        title="a scrape with 10,000 label sets",
        run=scrape.run,
        without=NO_FILE,
        services=scrape.SERVICES,
    ),
    Row(id="S1", title="start and drain", run=lifecycle.run, warm=False),
)
