"""Counts against what they may be: which rose, which fell, which nobody knows.

Pure: `measure.py` makes the counts, `__main__.py` reads and writes files.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE = 0.03
"""A share of the baseline. The counts differ by less than a third of it from run to run."""

SLACK = 0.02
"""Of a call or an allocation, where there is hardly one per unit: three percent of nearly nothing is nothing."""


class Change(enum.Enum):
    """What became of a count."""

    FALLEN = "fell"
    GONE = "is no longer counted"
    NEW = "has no baseline"
    RISEN = "rose"
    SAME = "same"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One count beside its baseline."""

    name: str
    change: Change
    baseline: float | None
    counted: float | None

    @property
    def fails(self) -> bool:
        """Whether the gate stays shut. What fell is good news that only asks for a lower baseline."""
        return self.change in (Change.GONE, Change.NEW, Change.RISEN)

    def __str__(self) -> str:
        numbers = f"{number(self.baseline):>12} {number(self.counted):>12}"
        line = f"{self.name:<46} {numbers}"
        if self.baseline and self.counted is not None:
            line += f" {self.counted / self.baseline - 1:>+8.1%}"
        return line if self.change is Change.SAME else f"{line}  {self.change.value}"


def judge(baseline: Mapping[str, float], counted: Mapping[str, float]) -> list[Verdict]:
    """One verdict for each name on either side, in order."""
    return [
        Verdict(
            name=name,
            change=_change(baseline.get(name), counted.get(name)),
            baseline=baseline.get(name),
            counted=counted.get(name),
        )
        for name in sorted(baseline.keys() | counted.keys())
    ]


def _change(baseline: float | None, counted: float | None) -> Change:
    if baseline is None:
        return Change.NEW
    if counted is None:
        return Change.GONE
    may_differ = max(baseline * TOLERANCE, SLACK)
    if counted > baseline + may_differ:
        return Change.RISEN
    if counted < baseline - may_differ:
        return Change.FALLEN
    return Change.SAME


def number(value: float | None) -> str:
    """A count as a person reads it."""
    return "-" if value is None else f"{value:,.2f}".removesuffix(".00")
