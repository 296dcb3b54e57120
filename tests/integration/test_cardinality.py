"""Thousands of peers that come once and say who they are: series, memory and counters of a real node (C8, T22).

What time does to label sets is tested with time handed in (rust/proxy/src/telemetry/metrics/tests/idle.rs); here a peer
behind a real tunnel names itself anew with every request, while somebody scrapes every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.hbone_peer import Wire, connect
from tests.support.lab import Lab
from tests.support.nodes import http_get

if TYPE_CHECKING:
    from pathlib import Path

OPENED = "istio_tcp_connections_opened_total"
# spec/reliability.md §8; what peers claim of themselves gets half of it.
LIMIT, CLAIMED = 20_000, 10_000
ROUND = 20
"""Requests at once: less than a node takes streams."""


@dataclass
class Scraper:
    """Looks every second, and remembers what it has seen."""

    lab: Lab
    most: int = 0
    visited: int = 0
    scrapes: int = 0
    slowest: float = 0.0
    resident: list[int] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    async def run(self, seconds: int) -> None:
        """So many looks, a second apart."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for second in range(1, seconds + 1):
            await self.look()
            rest = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                # The scraper's clock: nothing that could be waited for instead.
                async with asyncio.timeout_at(began + second):
                    await rest.wait()

    async def look(self) -> str:
        """One look; fails if a counter has gone back."""
        began = time.monotonic()
        text = await asyncio.to_thread(http_get, self.lab.node.bound["metrics"], "/metrics")
        self.slowest = max(self.slowest, time.monotonic() - began)
        shown = {
            labels: int(value)
            for labels, value in re.findall(rf"^{OPENED}{{(.*)}} (\d+)$", text, re.MULTILINE)
        }
        for labels, value in shown.items():
            assert value >= self.last.get(labels, 0), labels
        self.last.update(shown)
        self.most = max(self.most, len(shown))
        self.scrapes += 1
        self.resident.append(self.lab.node.resident())
        return text


async def visit(lab: Lab, scraper: Scraper, seconds: int, pause: float) -> None:
    """Peers for so long, each with a name that nobody has had before; one in twenty comes a second time."""
    names = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # A tunnel has so many streams and no more.
        async with await Wire.meet(lab.inbound, lab.as_client()) as wire:
            for _ in range(20):
                heads = []
                for place in range(ROUND):
                    number = names if place else names // 2
                    names += 1
                    baggage = f"k8s.namespace.name=shop,k8s.deployment.name=visitor-{number}"
                    fields = (("baggage", baggage), ("x-forwarded-network", "elsewhere"))
                    heads.append(wire.head(*connect(lab.authority_of_web), *fields, end=True))
                await wire.send(*heads)
                for head in heads:
                    assert await wire.status(head.stream_id) == 200
                scraper.visited += ROUND
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await asyncio.Event().wait()


async def crowd(folder: Path, seconds: int, pause: float) -> Scraper:
    """Visitors and a scraper beside each other; gives what the scraper has seen."""
    with Lab(folder, network="127.4", accessLog={"format": "off"}) as lab:
        scraper = Scraper(lab)
        async with lab.application(), asyncio.TaskGroup() as both:
            both.create_task(visit(lab, scraper, seconds, pause))
            both.create_task(scraper.run(seconds))
        text = await scraper.look()
        overflows = re.findall(r"^ztunnel_metric_overflows_total (\d+)$", text, re.MULTILINE)
        evicted = re.findall(r"^ztunnel_metrics_evicted_series_total (\d+)$", text, re.MULTILINE)
        megabytes = [each >> 20 for each in scraper.resident]
        sys.stdout.write(
            f"{seconds} s, {scraper.visited} visits of {len(scraper.last)} label sets, {scraper.scrapes} scrapes "
            f"(slowest {scraper.slowest:.2f} s): {scraper.most} label sets at most, {len(scraper.last)} in all, "
            f"{overflows} overflows, {evicted} evicted, resident MiB by tenths {megabytes[:: max(1, len(megabytes) // 10)]}\n"
        )
        return scraper


@pytest.mark.asyncio
@pytest.mark.timeout(60)
async def test_a_node_knows_its_visitors_apart_and_stays_small(tmp_path: Path) -> None:
    scraper = await crowd(tmp_path, seconds=4, pause=0.01)
    assert scraper.visited > 100
    # Each under its own name: they were fewer than there is room for.
    assert scraper.most > 0.9 * scraper.visited
    assert scraper.most < CLAIMED
    # 1.5 KiB of labels and 128 bytes of counters for each thread: 4 KiB with all that an allocator adds.
    grown = scraper.resident[-1] - scraper.resident[0]
    assert grown < (24 << 20) + scraper.most * 4096, grown
    opened = sum(scraper.last.values())
    assert opened == scraper.visited


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.timeout(900)
async def test_ten_minutes_of_visitors_leave_a_bounded_number_of_series(tmp_path: Path) -> None:
    scraper = await crowd(tmp_path, seconds=600, pause=0.5)
    assert len(scraper.last) > 10_000
    assert scraper.most <= LIMIT
    assert scraper.scrapes > 500
    # The second half costs no more than the first: by then there is as much as there will be.
    middle, end = max(scraper.resident[:300]), max(scraper.resident[300:])
    assert end < middle * 1.15 + (8 << 20), (middle, end)
    assert sum(scraper.last.values()) == scraper.visited
