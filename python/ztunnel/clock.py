"""Time, handed in: everyone who waits or looks at the time is given a `Clock`.

Two kinds of time, and the difference matters: *monotonic* for waiting, *wall* for the validity of
certificates. Only the wall clock can jump. `ztunnel.testing.ManualClock` is the counterpart for tests.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """One look at both clocks, for code that must not look by itself."""

    monotonic: float
    """Seconds since some moment; never goes back."""
    wall: float
    """Seconds since 1970 UTC, as certificates count; may jump either way."""


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> Now:
        """Both clocks, read together."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits on the monotonic clock."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Now:
        """Both clocks, read together."""
        return Now(monotonic=time.monotonic(), wall=time.time())

    async def sleep(self, seconds: float) -> None:
        """Waits on the event loop's monotonic clock."""
        await asyncio.sleep(seconds)
