"""What can go wrong with a stream's responses, as values: a test hands them to `FakeIstiod.next_stream`.

What goes wrong with whole connections (refused, never shaken hands, frozen, cut, told to go away) are methods of the
server; what goes wrong with certificates is in `answers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from grpclib import Status


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the stream with this status instead of the response."""

    status: Status = Status.UNAVAILABLE
    message: str = "the control plane is told to fail"


@dataclass(frozen=True, slots=True)
class Delay:
    """Sends the response so many seconds late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Garbage:
    """Sends these bytes instead of the response: no protobuf."""

    message: bytes = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Nonce:
    """Sends the response under another nonce, such as one that was there before."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Oversized:
    """Announces a message of so many bytes, and sends its beginning."""

    length: int = 300 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the HTTP/2 stream instead of sending the response."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Sends nothing more on this stream, which stays open."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """Sends the first half of the response as if it were all of it."""


Fault: TypeAlias = Close | Delay | Garbage | Nonce | Oversized | Reset | Silence | Truncated

ENDS_OK = Close(Status.OK, "")
TOO_LARGE = "grpc: received message larger than max ({} vs. {})"
"""As grpc-go says it; the one RESOURCE_EXHAUSTED that is about size."""
RATE_LIMITED = "rate limit exceeded"
