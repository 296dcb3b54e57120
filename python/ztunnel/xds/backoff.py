"""How long to wait before the next stream (spec/control.md §4.7). Pure: knows no clock and draws no number itself.

Two deviations, both on purpose. Every wait has jitter, so that a fleet does not come back in one instant. And an end
that may come again at once, without a single answer before it, makes the wait grow: upstream turns in a loop there, for
roots that cannot be read as for a server that ends streams well.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from ztunnel.errors import EndpointUnreachable, StreamEnded, StreamLost

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, LONGEST = 0.010, 15.0
# A wait takes so much of itself longer at most. Never shorter: the table's figures are minima.
JITTER = 0.5


class End(Enum):
    """Why a stream ended: the label `reason` of `istio_xds_connection_terminations`."""

    COMPLETE = "Complete"
    """The server said that all is well."""
    CONNECTION_ERROR = "ConnectionError"
    """There was no stream."""
    ERROR = "Error"
    """The server refuses, or we cannot go on."""
    RECONNECT = "Reconnect"
    """As happens in the life of every connection: a maximum age, a restart, a reset."""


class Backoff:
    """One control plane's."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` draws from [0, 1)."""
        self._random = random
        self._next = FIRST

    def pause(self, end: End, *, answered: bool) -> float:
        """Seconds from this end to the next attempt; `answered`: the stream brought something."""
        if end in (End.COMPLETE, End.RECONNECT):
            seconds = FIRST if answered else self._next
            self._next = min(LONGEST, 2 * seconds) if not answered else FIRST
        else:
            seconds = self._next = min(LONGEST, 2 * self._next)
        return seconds * (1 + JITTER * self._random())


def end_of(error: Exception | None, *, established: bool) -> End:
    """What an error, or its absence, means for the next attempt; `established`: the server had begun to answer."""
    match error:
        case None:
            return End.COMPLETE
        case EndpointUnreachable():
            return End.CONNECTION_ERROR
        case StreamEnded() | StreamLost() if not established:
            return End.CONNECTION_ERROR
        case StreamEnded() if _passes(error):
            return End.RECONNECT
        case StreamLost():
            return End.RECONNECT
        case _:
            return End.ERROR


def _passes(ended: StreamEnded) -> bool:
    if ended.status == "UNAVAILABLE":
        return any(words in ended.message for words in FAREWELLS)
    return ended.status in ("UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")


FAREWELLS = ("transport is closing", "received prior goaway")
