"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq

from ztunnel.clock import Now

# Turns of the event loop after which everything that could run has run; the longest chain in our code is
# about ten.
SETTLING_TURNS = 50


class ManualClock:
    """Both clocks in one hand: `advance` moves both, `jump` sets the wall clock alone, as NTP does."""

    def __init__(self, *, wall: float = 1_700_000_000.0, monotonic: float = 1_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> Now:
        """What the clocks show."""
        return Now(monotonic=self._monotonic, wall=self._wall)

    async def sleep(self, seconds: float) -> None:
        """Until somebody has advanced the clock by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += (
            1  # keeps the order of those who wake together, and futures out of comparisons
        )
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Moves on, wakes each sleeper at its time and lets it act before going further."""
        end = self._monotonic + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self.pass_time(max(0.0, at - self._monotonic))
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self.pass_time(end - self._monotonic)
        await self.settle()

    def pass_time(self, seconds: float) -> None:
        """Moves both clocks and wakes nobody: for code that is handed the time."""
        self._monotonic += seconds
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        """Sets the wall clock forward or back; the monotonic one does not notice."""
        self._wall += seconds

    async def settle(self) -> None:
        """Lets every task run until it waits for something."""
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)
