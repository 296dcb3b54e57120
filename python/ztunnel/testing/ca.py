"""A certificate authority made of memory: obeys at once, or fails, or waits, as the test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ztunnel.identity.ca import IssuedCertificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.clock import Clock
    from ztunnel.errors import CaError
    from ztunnel.identity.spiffe import Identity


class FakeCa:
    """Its certificates are words, which `FakeDataPlane` takes; `SelfSignedCa` makes real ones."""

    def __init__(self, clock: Clock, *, lifetime: float = 3600.0) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self.asked: list[Identity] = []
        """Every request so far."""
        self.trouble: Callable[[Identity], CaError | None] = lambda identity: None
        """What goes wrong with a request, if anything does."""
        self.trouble_at_start: CaError | None = None
        self.closed = False
        self.answering = asyncio.Event()
        """Cleared, no request is answered."""
        self.answering.set()

    async def open(self) -> None:
        """Always ready, unless `trouble_at_start` says otherwise."""
        if self.trouble_at_start is not None:
            raise self.trouble_at_start

    def close(self) -> None:
        """Remembers."""
        self.closed = True

    async def sign(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """A certificate from now on, for `lifetime` seconds."""
        self.asked.append(identity)
        await self.answering.wait()
        if error := self.trouble(identity):
            raise error
        wall = self._clock.now().wall
        return IssuedCertificate(
            chain=b"chain %d for %s" % (len(self.asked), csr),
            roots=b"roots",
            not_before=wall,
            not_after=wall + self.lifetime,
        )
