"""Conversations that a real istiod had: read them, and say istiod's part again to whoever takes the client's.

One JSON object a line: `dir` (`to istiod`, `from istiod`, `event`, `status`) and `raw`, the message in base64 as it was
on the wire. `Player` knows no sockets: `server.py` serves what it says. Counterpart: `ads.py`, which needs no script.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from grpclib import Status

from ztunnel.wire.discovery import DeltaRequest, WireResponse

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ToIstiod:
    """What the client said."""

    request: DeltaRequest
    raw: bytes


@dataclass(frozen=True, slots=True)
class FromIstiod:
    """What istiod said."""

    response: WireResponse
    raw: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """What was done to the cluster, or by whom the client was asked to do something."""

    note: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream ended; `CANCELLED` was the client's wish."""

    status: Status
    details: str


Line: TypeAlias = ToIstiod | FromIstiod | Event | Ended


def read(path: Path) -> list[list[Line]]:
    """A recording's streams, each from its first line to its status."""
    streams: list[list[Line]] = [[]]
    for text in path.read_text().splitlines():
        line = _line(json.loads(text))
        streams[-1].append(line)
        if isinstance(line, Ended):
            streams.append([])
    return [stream for stream in streams if stream]


@dataclass(slots=True)
class Player:
    """Says istiod's part of one stream; the client's must be as recorded, but for its nodes and nonces.

    The two types are two conversations on one stream: a client may answer them in either order.
    """

    lines: list[Line]
    mistakes: list[str] = field(default_factory=list)
    """Where the client left the recording."""
    _at: int = 0
    _early: list[DeltaRequest] = field(default_factory=list)

    def begin(self) -> list[bytes | Ended]:
        """What istiod says before the client says anything."""
        return self._go_on()

    def receive(self, request: DeltaRequest) -> list[bytes | Ended]:
        """What istiod says next."""
        self._early.append(request)
        return self._go_on()

    @property
    def done(self) -> bool:
        """Whether everything has been said."""
        return self._at == len(self.lines)

    def _go_on(self) -> list[bytes | Ended]:
        said: list[bytes | Ended] = []
        while not self.done:
            line = self.lines[self._at]
            match line:
                case ToIstiod():
                    if not self._heard(line.request):
                        return said
                case FromIstiod():
                    said.append(line.raw)
                case Ended():
                    said.append(line)
                case Event():
                    pass
            self._at += 1
        return said

    def _heard(self, expected: DeltaRequest) -> bool:
        """Whether the client's next request of this type has come; notes what is wrong with it."""
        for request in self._early:
            if request.type_url == expected.type_url:
                self._early.remove(request)
                self.mistakes += differences(expected, request)
                return True
        return False


def differences(expected: DeltaRequest, found: DeltaRequest) -> list[str]:
    """What a client said other than the recorded one; texts of refusals and nodes are a client's own."""
    pairs = {
        "nonce": (expected.nonce, found.nonce),
        "subscribe": (sorted(expected.subscribe), sorted(found.subscribe)),
        "unsubscribe": (sorted(expected.unsubscribe), sorted(found.unsubscribe)),
        "initial versions": (sorted(expected.initial_versions), sorted(found.initial_versions)),
        "refused": (expected.error is not None, found.error is not None),
        "node": (expected.node is not None, found.node is not None),
    }
    return [
        f"{expected.type_url}: {what}: expected {wanted!r}, got {got!r}"
        for what, (wanted, got) in pairs.items()
        if wanted != got
    ]


def _line(said: dict[str, str]) -> Line:
    match said["dir"]:
        case "to istiod":
            raw = base64.b64decode(said["raw"])
            return ToIstiod(DeltaRequest.decode(raw), raw)
        case "from istiod":
            raw = base64.b64decode(said["raw"])
            return FromIstiod(WireResponse.decode(raw), raw)
        case "status":
            return Ended(Status[said["code"].removeprefix("StatusCode.")], said["details"])
        case _:
            return Event(said["note"])
