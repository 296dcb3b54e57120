"""What a request for a profile asks for (spec/control.md §10.1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl

SECONDS = (1, 300, 10)
FREQUENCY = (1, 1000, 100)
"""The least, the most, and what is meant by silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileQuery:
    """How long and how often."""

    seconds: int
    frequency: int
    """Samples in a second of a thread's time."""

    @classmethod
    def read(cls, query: str) -> Self:
        """`ValueError` says what is wrong, for whoever asked."""
        given = dict(parse_qsl(query, keep_blank_values=True))
        return cls(
            seconds=_bounded(given, "seconds", *SECONDS),
            frequency=_bounded(given, "frequency", *FREQUENCY),
        )

    @property
    def period(self) -> float:
        """Seconds between two samples."""
        return 1 / self.frequency


def _bounded(given: dict[str, str], name: str, low: int, high: int, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    # Nine digits: `int` of a long text takes its time.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise ValueError(f"{name} must be a whole number from {low} to {high}: {text[:40]}")
    return int(text)
