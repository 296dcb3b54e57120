"""What a plain connection costs a node: `python -m bench.passthrough [ROUNDS]`.

The same transfers through two nodes that differ in one setting, `splice`, in turns; the median of the rounds. Figures
are CPU time of the node's process, user and system; what the kernel does for client and application is not in them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import workloads
from bench.subjects import passthrough

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.subjects import Subject
    from bench.workloads import Address, Run

MIB = 2**20
ROUNDS = 7


def _many(run: Callable[[Address, int], Run], size: int, count: int) -> Callable[[Address], Run]:
    """The same transfer on `count` connections, one after the other."""

    def work(way_in: Address) -> Run:
        runs = [run(way_in, size) for _ in range(count)]
        return workloads.Run(
            units=sum(run.units for run in runs), seconds=sum(run.seconds for run in runs)
        )

    return work


WORKLOADS: dict[str, tuple[Callable[[Address], Run], str, float]] = {
    "512 MiB down": (_many(workloads.bulk_down, 512 * MIB, 1), "s/GiB", 1.0),
    "512 MiB up": (_many(workloads.bulk_up, 512 * MIB, 1), "s/GiB", 1.0),
    "64 x 4 MiB down": (_many(workloads.bulk_down, 4 * MIB, 64), "s/GiB", 1.0),
    "256 x 256 KiB down": (_many(workloads.bulk_down, MIB // 4, 256), "s/GiB", 1.0),
    "512 x 64 KiB down": (_many(workloads.bulk_down, MIB // 16, 512), "s/GiB", 1.0),
    "64 KiB round trips": (
        partial(workloads.ping_pong, connections=1, size=65536, trips=3000), "µs each", 1e6
    ),
    "16 KiB round trips": (
        partial(workloads.ping_pong, connections=1, size=16384, trips=3000), "µs each", 1e6
    ),
    "128 B round trips": (
        partial(workloads.ping_pong, connections=1, size=128, trips=3000), "µs each", 1e6
    ),
}  # fmt: skip


def main() -> None:
    """Print one line for each workload."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(
        f"{'':20} {'copy':>8} {'splice':>8}  CPU {'':8} {'ratio':>5}   {'copy':>7} {'splice':>7} per s"
    )
    for title, (work, unit, scale) in WORKLOADS.items():
        with (
            tempfile.TemporaryDirectory() as one,
            tempfile.TemporaryDirectory() as other,
            passthrough(Path(one), splice=False) as copy,
            passthrough(Path(other), splice=True) as splice,
        ):
            pair = [copy, splice]
            seen: dict[str, list[tuple[float, float]]] = {"copy": [], "splice": []}
            for subject in pair:
                work(subject.way_in)
            for _ in range(rounds):
                pair.reverse()
                for subject in pair:
                    seen[subject.name].append(_measure(subject, work))
        ratio = statistics.median(
            s[0] / c[0] for c, s in zip(seen["copy"], seen["splice"], strict=True)
        )
        cpu, speed = (
            {
                name: statistics.median(sample[i] for sample in samples)
                for name, samples in seen.items()
            }
            for i in (0, 1)
        )
        print(
            f"{title:20} {cpu['copy'] * scale:8.3f} {cpu['splice'] * scale:8.3f}  {unit:12} {ratio:5.2f}"
            f"   {speed['copy']:7.1f} {speed['splice']:7.1f}",
            flush=True,
        )


def _measure(subject: Subject, work: Callable[[Address], Run]) -> tuple[float, float]:
    """CPU seconds for a unit, and units per second."""
    before = subject.cpu()
    run = work(subject.way_in)
    return (subject.cpu() - before) / run.units, run.units / run.seconds


if __name__ == "__main__":
    main()
