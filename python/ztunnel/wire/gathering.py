"""A door before a socket, shut for a moment while many small messages come, so that they are heard together.

What wakes a process for one message costs several times what the message does (bench/control/README.md): the
kernel's way up, the event loop's, TLS's, and all of it again for the acknowledgement. Network cards do the same and call
it interrupt moderation. Knows no messages; `duplex.py` says when nobody is inside.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# A control plane gathers for 100 ms before it says anything (istio's PILOT_DEBOUNCE_AFTER): a tenth of that is not seen. At
# a thousand messages a second, ten come at once.
MOMENT = 0.01
# So much is worth a waking before the moment is over; the kernel takes half of its buffer instead, if that is less.
MUCH = 64 * 1024


class Timers(Protocol):
    """What an event loop has of time."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle: ...


class Gathering:
    """The door of one socket. Whoever comes to a quiet house finds it open; only those right behind wait."""

    def __init__(self, connected: socket.socket, timers: Timers) -> None:
        self._socket = connected
        self._timers = timers
        self._timer: asyncio.TimerHandle | None = None
        self._last = -math.inf
        self._waited = self._crowded = False

    def came(self, many: bool) -> None:
        """Somebody came in, or `many` at once."""
        now = self._timers.time()
        # Whoever asks for the next one by its answer to the last would wait for the door, and alone.
        self._crowded = many if self._waited else now - self._last < MOMENT
        self._last, self._waited = now, False

    def shut(self) -> None:
        """Nobody is inside: if they come in a crowd, let those who follow gather, for a moment at most."""
        until = self._last + MOMENT
        if self._timer is None and self._crowded and self._timers.time() < until:
            self._low_water(MUCH)
            self._waited = True
            self._timer = self._timers.call_at(until, self.open)

    def open(self) -> None:
        """Whatever there is comes in at once. The kernel tells of what came meanwhile by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._low_water(1)

    def _low_water(self, size: int) -> None:
        # socket(7), SO_RCVLOWAT. The end of a connection wakes whoever waits, whatever this says.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
