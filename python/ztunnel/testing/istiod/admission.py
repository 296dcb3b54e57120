"""How many new streams istiod takes: a bucket of tokens, and a wait of at most a second for one (istio.md A3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.clock import SystemClock

if TYPE_CHECKING:
    from ztunnel.clock import Clock

# 15 a second, and 5 for each core up to 100: one core's.
ISTIOD_RATE = 20.0
LONGEST_WAIT = 1.0


class Admission:
    """Takes streams at a rate."""

    def __init__(self, rate: float = ISTIOD_RATE, *, clock: Clock | None = None) -> None:
        """`rate`: a second; so many are taken at once, too."""
        self._rate = rate
        self._clock = clock or SystemClock()
        self._tokens = rate
        self._at = self._clock.now().monotonic

    async def enter(self) -> bool:
        """Whether the stream may go on, once it may: at once, or within a second."""
        now = self._clock.now().monotonic
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        wait = (1.0 - self._tokens) / self._rate
        if wait > LONGEST_WAIT:
            return False
        # Reserved, even if it is not there yet: whoever comes next waits longer.
        self._tokens -= 1.0
        if wait > 0:
            await self._clock.sleep(wait)
        return True
