"""Medians, ratios within rounds, and how sure they are. Arithmetic only.

A ratio is one subject's figure over another's in the same round and row; what is told is the median of
these, with a 95 % interval by bootstrap over the rounds.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MORE_IS_BETTER = ("Gbit/s", "per second")
RESAMPLES = 2000
DRIFT = 0.10


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One subject, one row, one round. Figures by name, or why there are none."""

    round: int
    row: str
    subject: str
    figures: Mapping[str, float] = field(default_factory=dict)
    raw: Sequence[Mapping[str, Any]] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A median, and between what it lies in 95 of 100 resamples."""

    median: float
    low: float
    high: float
    count: int


def figures(samples: Iterable[Sample], row: str) -> list[str]:
    """The names of a row's figures, in the order of the sample that has most."""
    found = [sample.figures for sample in samples if sample.row == row]
    names: dict[str, None] = {}
    for figures_of_one in sorted(found, key=len, reverse=True):
        names.update(dict.fromkeys(figures_of_one))
    return list(names)


def values(samples: Iterable[Sample], row: str, subject: str, figure: str) -> dict[int, float]:
    """Round → figure."""
    return {
        sample.round: sample.figures[figure]
        for sample in samples
        if sample.row == row and sample.subject == subject and figure in sample.figures
    }


def median(samples: Sequence[Sample], row: str, subject: str, figure: str) -> float | None:
    """Over the rounds."""
    found = values(samples, row, subject, figure)
    return statistics.median(found.values()) if found else None


def ratio(
    samples: Sequence[Sample], row: str, figure: str, subjects: tuple[str, str]
) -> Interval | None:
    """The first subject's figure over the second's, round by round."""
    one, other = (values(samples, row, subject, figure) for subject in subjects)
    ratios = [one[number] / other[number] for number in one if other.get(number)]
    return bootstrap(ratios) if ratios else None


def bootstrap(observed: Sequence[float], seed: int = 1) -> Interval:
    """The median of these, and of what they might have been."""
    draw = random.Random(seed)
    medians = sorted(
        statistics.median(draw.choices(observed, k=len(observed))) for _ in range(RESAMPLES)
    )
    return Interval(
        median=statistics.median(observed),
        low=medians[int(RESAMPLES * 0.025)],
        high=medians[int(RESAMPLES * 0.975) - 1],
        count=len(observed),
    )


def better_is_more(figure: str) -> bool:
    """Whether a figure is a rate rather than a cost."""
    return figure.endswith(MORE_IS_BETTER)


def with_added(samples: Sequence[Sample], control: str = "direct") -> list[Sample]:
    """What the proxies add to a single connection's median round trip, in the same round."""
    name, added = "128 B x 1, p50 µs", "128 B x 1, added p50 µs"
    floor = {
        (sample.round, sample.row): sample.figures[name]
        for sample in samples
        if sample.subject == control and name in sample.figures
    }
    out = []
    for sample in samples:
        alone = floor.get((sample.round, sample.row))
        if sample.subject != control and alone is not None and name in sample.figures:
            more = {**sample.figures, added: sample.figures[name] - alone}
            sample = Sample(**{**vars(sample), "figures": more})
        out.append(sample)
    return out


def drifts(samples: Sequence[Sample], control: str = "direct") -> list[str]:
    """Where the control's last round is more than a tenth away from its first."""
    found = []
    for row in dict.fromkeys(sample.row for sample in samples):
        for figure in figures(samples, row):
            seen = values(samples, row, control, figure)
            if len(seen) < 2 or "p99" in figure:  # a tail of one short block says nothing
                continue
            first, last = seen[min(seen)], seen[max(seen)]
            if first and abs(last / first - 1) > DRIFT:
                found.append(f"{row}: {figure}: {first:.4g} → {last:.4g}")
    return found
