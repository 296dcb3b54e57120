"""What a server saw of its clients, for tests to wait for and to look at: each stream's requests, answers and end.

Waiting is for a fact, with a deadline, and a failure says what was seen instead. Written by `server.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ztunnel.testing.istiod.resources import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ztunnel.testing.istiod.ads import Verdict
    from ztunnel.testing.istiod.callers import Caller
    from ztunnel.wire.discovery import DeltaRequest, WireNode, WireResponse

# Seconds. Two shared cores and a debug build take their time.
DEADLINE = 30.0
# A stream's history for a model to check: an hour of ten updates a second, both ways.
HISTORY = 72_000
# Streams that have ended; a client without a pause between its attempts must not fill the memory.
STREAMS = 10_000


class NotSeenError(AssertionError):
    """What a test waited for did not happen in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, and what the server took it for."""

    request: DeltaRequest
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A response, without its payloads."""

    type_url: str
    nonce: str
    versions: tuple[tuple[str, str], ...]
    """Name and version of each resource, in order."""
    removed: tuple[str, ...]
    damaged: bool = False
    """What went out was not this but a fault's doing: nobody can answer it."""


Said: TypeAlias = Asked | Told


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """One ADS stream as the server saw it."""

    number: int
    """From 1 on, in the order of their opening."""
    headers: Mapping[str, str]
    caller: Caller | None = None
    node: WireNode | None = None
    history: deque[Said] = field(default_factory=lambda: deque(maxlen=HISTORY))
    ended: str | None = None
    """How: `OK`, a status with its message, or what became of the connection. None: it is open."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """Nonces of responses to which nobody has said yes or no, with their types."""
    acks: dict[str, int] = field(default_factory=dict)
    """How many responses of a type were taken."""
    nacks: list[tuple[str, str]] = field(default_factory=list)
    """Type and text of each refusal."""

    @property
    def name(self) -> str:
        """The pod's name in the node's id, `pod.namespace`; empty before the first request."""
        parts = self.node.id.split("~") if self.node else []
        return parts[2] if len(parts) == 4 else ""

    @property
    def synced(self) -> bool:
        """Both types were asked for, and a response of each was taken."""
        return all(self.acks.get(type_url) for type_url in TYPES)

    @property
    def introduced(self) -> bool:
        """A response of either type was answered, by yes or no."""
        refused = {type_url for type_url, _ in self.nacks}
        return all(self.acks.get(each) or each in refused for each in TYPES)

    def asked(self, type_url: str, *verdicts: Verdict) -> list[DeltaRequest]:
        """The requests of a type so far; of these verdicts, if some are given."""
        return [
            said.request
            for said in self.history
            if isinstance(said, Asked)
            and said.request.type_url == type_url
            and (not verdicts or said.verdict in verdicts)
        ]

    def told(self, type_url: str) -> list[Told]:
        """The responses of a type so far."""
        return [s for s in self.history if isinstance(s, Told) and s.type_url == type_url]

    def note_request(self, request: DeltaRequest, verdict: Verdict) -> None:
        """It came."""
        self.history.append(Asked(request=request, verdict=verdict))
        if self.node is None:
            self.node = request.node
        # A response that was overtaken by the next is answered, too, though the server does not care.
        if self.unanswered.pop(request.nonce, None) is None:
            return
        if request.error is not None:
            self.nacks.append((request.type_url, request.error))
        else:
            self.acks[request.type_url] = self.acks.get(request.type_url, 0) + 1

    def note_response(self, response: WireResponse, *, damaged: bool = False) -> None:
        """It goes out, or something else in its place."""
        if not damaged:
            self.unanswered[response.nonce] = response.type_url
        self.history.append(
            Told(
                type_url=response.type_url,
                nonce=response.nonce,
                versions=tuple((each.name, each.version) for each in response.resources),
                removed=tuple(response.removed),
                damaged=damaged,
            )
        )

    def __str__(self) -> str:
        what = self.ended or ("synced" if self.synced else "open")
        return (
            f"stream {self.number} of {self.name or '?'}: {what}, {sum(self.acks.values())} ACKs, "
            f"{len(self.nacks)} NACKs, {len(self.unanswered)} unanswered"
        )


class Observed:
    """Everything that a server saw; `changed` wakes whoever waits."""

    def __init__(self) -> None:
        self.streams: deque[Stream] = deque(maxlen=STREAMS)
        self.opened = 0
        """Streams so far, also those that were turned away."""
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def open(self, headers: Mapping[str, str]) -> Stream:
        """A stream begins."""
        self.opened += 1
        stream = Stream(number=self.opened, headers=headers)
        self.streams.append(stream)
        return stream

    def live(self) -> list[Stream]:
        """The streams that are open."""
        return [stream for stream in self.streams if stream.ended is None]

    def changed(self) -> None:
        """Look whether somebody has waited for this."""
        for entry in list(self._waiting):
            condition, seen = entry
            if not seen.done() and condition():
                seen.set_result(None)

    async def wait(
        self, condition: Callable[[], object], what: str, within: float = DEADLINE
    ) -> None:
        """Until `condition()` holds; `NotSeenError` after `within` seconds. It is asked after each event."""
        if condition():
            return
        entry = (condition, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(within):
                await entry[1]
        except TimeoutError:
            raise NotSeenError(f"not within {within:g} s: {what}; {self}") from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(entry)

    def __str__(self) -> str:
        shown: Sequence[Stream] = list(self.streams)[-8:]
        return "; ".join(map(str, shown)) or "no stream was opened"
