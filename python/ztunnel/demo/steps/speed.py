"""The tunnel's throughput beside bench/pure_python's: the same application, the same client, no tap."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.demo.clients import take
from ztunnel.demo.places import SOURCE
from ztunnel.demo.story import LeftOut, mib

if TYPE_CHECKING:
    from ztunnel.demo.contest import Contest, Tunnel
    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story

# Once before the clock starts: tunnels are up, windows have grown.
WARM_UP = 4 * 1024 * 1024
ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One bulk transfer."""

    name: str
    size: int
    seconds: float
    cpu: float
    """CPU-seconds of both proxies."""

    @property
    def cpu_per_gib(self) -> float:
        """CPU-seconds for each GiB."""
        return self.cpu / self.size * 2**30

    def row(self) -> list[str]:
        """For the table."""
        rate = f"{mib(self.size / self.seconds)}/s"
        cpu = f"{self.cpu:.2f} s"
        return [self.name, f"{self.seconds:.2f} s", rate, cpu, f"{self.cpu_per_gib:.2f} s"]


def beside_pure_python(stage: Stage, story: Story, contest: Contest) -> None:
    """Downloads through each; seconds, CPU-seconds of both proxies, ratio."""
    size = stage.payload.size
    tunnels = contest.ready()
    for tunnel in tunnels:
        _download(stage, tunnel, WARM_UP)
    # In turns, and the better one of each: what else this machine does should meet both.
    rounds = [[_measure(stage, tunnel, size) for tunnel in tunnels] for _ in range(ROUNDS)]
    best = [min(runs, key=lambda run: run.seconds) for runs in zip(*rounds, strict=True)]
    heads = [f"{mib(size)}, best of {ROUNDS}", "time", "throughput", "CPU", "CPU per GiB"]
    story.table(heads, [run.row() for run in best])
    if contest.rival_missing:
        raise LeftOut(f"the comparison with pure Python: {contest.rival_missing}")
    ours, theirs = best
    story.fact(
        "ratio",
        f"{theirs.seconds / ours.seconds:.1f} times the throughput, "
        f"{theirs.cpu_per_gib / ours.cpu_per_gib:.1f} times less CPU for each GiB",
    )


def _measure(stage: Stage, tunnel: Tunnel, size: int) -> Run:
    cpu, began = _cpu(tunnel), time.monotonic()
    _download(stage, tunnel, size)
    seconds = time.monotonic() - began
    return Run(name=tunnel.name, size=size, seconds=seconds, cpu=_cpu(tunnel) - cpu)


def _cpu(tunnel: Tunnel) -> float:
    return sum(proxy.cpu() for proxy in tunnel.proxies)


def _download(stage: Stage, tunnel: Tunnel, size: int) -> None:
    connection = stage.ways.at(tunnel.way_in) if tunnel.way_in else stage.ways.open(SOURCE)
    connection.sendall(b"%d\n" % size)
    take(connection, size)
