"""What the nodes hold and use while the soak runs: a sample every few seconds, and whether the curve is flat.

Reads only.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.macro import usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.nodes import Node

MIB = 2**20
EVERY = 5.0
# Samples of a short run: a quarter's median needs more than one or two.
FEWEST = 28
# Allocators keep what the worst moment needed; what grows by more than this in half of the run is a leak.
GROWTH = 1.5


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at both nodes."""

    seconds: float
    near: float
    """RssAnon, MiB."""
    far: float
    cpu: float
    """Of both, seconds since their start."""
    tunnels: int
    """Open in the near node."""
    descriptors: int
    """Of both."""


@dataclass(kw_only=True)
class Watch:
    """The curve of one run."""

    near: Node
    far: Node
    begin: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> Sample:
        """Take a sample."""
        nodes = (self.near, self.far)
        sample = Sample(
            seconds=round(time.monotonic() - self.begin, 2),
            near=self.near.resident() / MIB,
            far=self.far.resident() / MIB,
            cpu=usage.cpu_seconds([node.pid for node in nodes]),
            tunnels=int(self.near.metrics().total("ztunnel_tunnels_open", side="outbound")),
            descriptors=sum(sum(node.descriptors().values()) for node in nodes),
        )
        self.samples.append(sample)
        return sample


def growth(curve: Sequence[float]) -> float:
    """How much higher the median of the last quarter is than that of the second."""
    quarter = len(curve) // 4
    if quarter == 0:
        raise ValueError(f"too short to tell: {len(curve)} samples")
    second, last = curve[quarter : 2 * quarter], curve[-quarter:]
    return statistics.median(last) - statistics.median(second)
