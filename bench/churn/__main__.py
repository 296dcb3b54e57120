"""Round trips and new connections through two nodes, with and without changes of their mesh, in turn.

    python -m bench.churn --pairs 12 --rate 1000

A pair is one block with and one without, in turning order; a ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import workloads
from bench.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.workloads import Address, Run


@dataclass(frozen=True, kw_only=True)
class Block:
    """One workload, once."""

    workload: str
    churn: bool
    p50: float
    p99: float
    cpu: float
    """Of both nodes, all threads, for one unit. Seconds, like all times here."""
    changes: int
    changing: float
    """CPU for one change in one node: Python's call and all that is below it."""


WORKLOADS: dict[str, Callable[[Address], Run]] = {
    "L1 128 B round trips, 1 connection": lambda to: workloads.ping_pong(to, 1, 128, 15_000),
    "C1 new connections, 1 at a time": lambda to: workloads.connections(to, 2_000, 1),
    "C1 new connections, 32 at once": lambda to: workloads.connections(to, 4_000, 32),
}


def measure(name: str, way_in: Address, nodes: list[Child], rate: float) -> Block:
    """One block; `rate` 0 is without churn."""
    if rate:
        for node in nodes:
            node.tell(f"churn {rate}")
    before = sum(node.cpu() for node in nodes)
    run = WORKLOADS[name](way_in)
    cpu = sum(node.cpu() for node in nodes) - before
    changes, changing = 0, 0.0
    if rate:
        for node in nodes:
            node.tell("rest")
            made = node.line().split()
            changes, changing = changes + int(made[1]), changing + float(made[2])
    latencies = sorted(run.latencies)
    return Block(
        workload=name,
        churn=bool(rate),
        p50=latencies[len(latencies) // 2],
        p99=latencies[len(latencies) * 99 // 100],
        cpu=cpu / run.units,
        changes=changes,
        changing=changing / changes if changes else 0.0,
    )


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % of the medians of resampled ratios."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2_000))
    return medians[50], medians[1949]


def report(blocks: list[Block]) -> Iterator[str]:
    """A Markdown table, a row for each figure."""
    yield "| | without | with | with ÷ without | 95 % |"
    yield "|---|--:|--:|--:|--:|"
    for name in WORKLOADS:
        still = [block for block in blocks if block.workload == name and not block.churn]
        moved = [block for block in blocks if block.workload == name and block.churn]
        for row in ("p50", "p99", "cpu"):
            pairs = [(getattr(a, row), getattr(b, row)) for a, b in zip(still, moved, strict=True)]
            ratios = [b / a for a, b in pairs]
            low, high = interval(ratios)
            without, with_ = (
                statistics.median(column) * 1e6 for column in zip(*pairs, strict=True)
            )
            yield (
                f"| {name}: {row} µs | {without:.1f} | {with_:.1f} "
                f"| {statistics.median(ratios):.3f} | {low:.3f}-{high:.3f} |"
            )
        changing = statistics.median(block.changing for block in moved) * 1e6
        yield f"| {name}: CPU µs of a change, in one node | | {changing:.1f} | | |"


def main() -> None:
    """Start all, measure in pairs, print the table and leave the blocks."""
    parser = argparse.ArgumentParser(prog="python -m bench.churn")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument(
        "--rate", type=float, default=1_000.0, help="changes a second, in each node"
    )
    parser.add_argument("--json", type=Path, help="where every block is written")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())

        def child(*command: str) -> Child:
            started = Child(*command)
            stack.callback(started.end)
            return started

        application = child("bench.application", "127.0.0.2").address[1]
        server = child("bench.churn.node", "server", folder, "15008", str(application))
        hbone = str(server.address[1])
        client = child("bench.churn.node", "client", folder, hbone, str(application))
        nodes = [client, server]
        blocks = []
        for name in WORKLOADS:
            measure(name, client.address, nodes, 0.0)  # warm
            for number in range(options.pairs):
                order = (0.0, options.rate) if number % 2 else (options.rate, 0.0)
                blocks += [measure(name, client.address, nodes, rate) for rate in order]
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(block) for block in blocks]))
    print("\n".join(report(blocks)))


if __name__ == "__main__":
    main()
