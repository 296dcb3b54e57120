"""What a soak has to tell: the curve of memory, what was carried, what did not fit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.soak import watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.soak.watch import Sample

GIB = 2**30
# A line of the table each five minutes; in short runs, four in all.
STEP = 300.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All of one run."""

    seed: int
    idle: Sample
    curve: Sequence[Sample]
    busy: Sample
    """When the last connection had just ended."""
    end: Sample
    """When all tunnels were gone, too."""
    tallies: Sequence[Mapping[str, int]]
    """Steady and torn connections, warm-up included."""
    handshakes: int
    certificates: int
    key_update_after: int

    def growing(self) -> Iterator[str]:
        """Memory that is not flat."""
        for name in ("near", "far"):
            more = watch.growth([getattr(sample, name) for sample in self.curve])
            if more > watch.GROWTH:
                yield f"{name}: {more:.1f} MiB more in the last quarter than in the second"

    def markdown(self, faults: Sequence[str]) -> str:
        """The table, and the faults below it."""
        return "\n".join([*self._table(), "", *self._counts(), "", *_told(faults)])

    def _table(self) -> Iterator[str]:
        yield "| | near, MiB | far, MiB | tunnels | descriptors |"
        yield "|---|--:|--:|--:|--:|"
        yield _row("idle, before any load", self.idle)
        first, last = self.curve[0], self.curve[-1]
        yield _row("after warm-up", first)
        step = STEP if last.seconds > 2 * STEP else last.seconds / 4
        due = step
        for sample in self.curve[1:-1]:
            if sample.seconds >= due:
                yield _row(f"{sample.seconds:.0f} s", sample)
                due += step
        yield _row(f"{last.seconds:.0f} s, the last under load", last)
        yield _row("all tunnels gone", self.end)

    def _counts(self) -> Iterator[str]:
        steady, torn = self.tallies
        moved = sum(tally["sent"] + tally["got"] for tally in self.tallies)
        yield f"* {steady['connections']:,} connections whole, {torn['connections']:,} reset in mid-stream"
        yield f"* {moved / GIB:.1f} GiB, every byte compared at both ends"
        # Each direction of each tunnel has begun one interval that it may not have ended.
        most = moved // self.key_update_after
        least = max(0, most - 2 * self.handshakes)
        yield f"* {least:,} to {most:,} key updates, {self.handshakes:,} handshakes, {self.certificates:,} certificates installed"
        seconds = self.curve[-1].seconds - self.curve[0].seconds
        cores = (self.curve[-1].cpu - self.curve[0].cpu) / seconds if seconds else 0.0
        yield f"* the nodes used {cores:.2f} processors; seed {self.seed}"
        for name in ("near", "far"):
            more = watch.growth([getattr(sample, name) for sample in self.curve])
            yield f"* {name}: {more:+.2f} MiB from the second quarter to the last (medians)"


def _told(faults: Sequence[str]) -> list[str]:
    if not faults:
        return ["Everything fits."]
    return [f"{len(faults)} things do not fit:", *(f"* {fault}" for fault in faults)]


def _row(title: str, sample: Sample) -> str:
    return (
        f"| {title} | {sample.near:.1f} | {sample.far:.1f} "
        f"| {sample.tunnels} | {sample.descriptors} |"
    )


def progress(sample: Sample) -> str:
    """One line while it runs."""
    return (
        f"{sample.seconds:6.0f} s: near {sample.near:.1f} MiB, far {sample.far:.1f} MiB, "
        f"{sample.tunnels} tunnels, {sample.descriptors} descriptors, CPU {sample.cpu:.1f} s"
    )


def say(text: str) -> None:
    """How far it is; results go to standard output."""
    print(text, file=sys.stderr, flush=True)
