"""Delta ADS as a conversation: what the control plane says in, what is to be done out (spec/control.md §4.3–4.8).

Never opens a socket and never looks at a clock; `client.py` does both for it. Decides *what* is asked, applied and
acknowledged; which bytes a resource has is the data plane's to read, and which names it holds the ledgers'.

    connected ──▶ First ──(made)──▶ begun ──▶ Send
    receive ──▶ Apply ──(the data plane)──▶ applied ──▶ Absent · Opened · Send (ACK or NACK)
    want ──▶ Absent, or nothing yet        next ──▶ Send (questions) · Absent
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ztunnel.dataplane.handle import TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION
from ztunnel.wire.discovery import DeltaRequest
from ztunnel.xds.demand import Demands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ztunnel.dataplane.handle import DataPlane, DeltaResponse, Ledger, Rejection
    from ztunnel.wire.discovery import WireNode

# In the order of a stream's first requests (§4.3).
TYPES = (TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION)
# istiod takes requests of 4 MiB (istio.md A3.1); the margin is for whoever stands between and adds to them.
MAX_REQUEST = 4 * 1024 * 1024 - 64 * 1024
# A NACK is a log line there, and a request like others.
MAX_REASONS = 64 * 1024
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: send this request."""

    request: DeltaRequest


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream's first request of a type."""

    request: DeltaRequest
    whole: bool
    """Its versions were left out, so that the answer is complete."""
    waiting: Sequence[str]
    """What it asks for beside what is held."""


@dataclass(frozen=True, slots=True)
class First:
    """Effect: make a stream's first request of a type with `perform`, and hand it to `begun`."""

    bare: DeltaRequest
    ledger: Ledger
    waiting: Sequence[str]
    limit: int
    """Bytes that the server takes."""

    def perform(self) -> Begun:
        """With the versions of all that is held, or without any. May take a while, and may run in a thread of its own."""
        # Nobody has sent these, so that they have no version (§4.5).
        unknown = [(name, "") for name in self.waiting]
        beside = dataclasses.replace(self.bare, initial_versions=unknown)
        left = self.limit - len(beside.encode())
        held = self.ledger.versions(left) if left >= 0 else None
        if held is None:
            return Begun(self.bare, True, self.waiting)
        known = {name for name, _ in held} if unknown else ()
        versions = held + [each for each in unknown if each[0] not in known]
        request = dataclasses.replace(self.bare, initial_versions=versions)
        return Begun(request, False, self.waiting)


@dataclass(frozen=True, slots=True)
class Apply:
    """Effect: hand the answer to the data plane with `perform`, and what comes of it to `applied`."""

    response: DeltaResponse
    ledger: Ledger | None
    """None: nobody asked for this type; it is counted and not held."""
    complete: bool
    """It brings all that there is: what is held beside it is gone."""

    def perform(self, data_plane: DataPlane) -> Sequence[Rejection]:
        """Applies, then keeps the books. May take a while, and may run in a thread of its own."""
        if self.ledger is None:
            return data_plane.apply_delta(self.response)
        gone = self.ledger.missing(self.response) if self.complete else []
        rejections = data_plane.apply_delta(self.response, gone)
        # After the mesh has changed: names that are held and not there would never be sent again.
        self.ledger.record(self.response, [rejection.name for rejection in rejections])
        if gone:
            self.ledger.forget(gone)
        return rejections


@dataclass(frozen=True, slots=True)
class Absent:
    """Effect: tell the data plane that nobody has what it asked for."""

    name: str


@dataclass(frozen=True, slots=True)
class Opened:
    """Effect: every type has come once, so that traffic may be served."""


Effect: TypeAlias = Send | Apply | Absent | Opened


class DeltaSubscription:
    """What we asked the control plane for, what we hold, what we owe an answer to. Outlives streams."""

    def __init__(
        self, node: WireNode, ledgers: Mapping[str, Ledger], *, on_demand: bool = False
    ) -> None:
        """`ledgers` has one for each of `TYPES`; `on_demand`: addresses come when they are asked for."""
        self._node = node
        self._ledgers = ledgers
        self._on_demand = on_demand
        self._demands = Demands()
        # Types whose first answer has not come, or was refused; streams come and go meanwhile (§4.6).
        self._unsynced = {kind for kind in TYPES if not self._is_on_demand(kind)}
        # Types of this stream that were asked for without versions, and so come whole.
        self._whole: set[str] = set()
        self._with_versions = False
        self._max_request = MAX_REQUEST
        self._in_flight: DeltaResponse | None = None

    def connected(self) -> list[First]:
        """A stream begins. Hand each of these to `begun` when it is made, and say `introduced` when all are sent."""
        self._in_flight = None
        self._whole.clear()
        self._with_versions = False
        return [self._first(kind) for kind in TYPES]

    def begun(self, begun: Begun, now: float) -> Send:
        """A first request was made: what is to be expected of its answer."""
        kind = begun.request.type_url
        if begun.whole:
            self._whole.add(kind)
        self._with_versions |= bool(begun.request.initial_versions)
        if self._is_on_demand(kind):
            self._demands.begin(() if begun.whole else begun.waiting, now)
        return Send(begun.request)

    def introduced(self) -> None:
        """The first requests were sent."""
        self._demands.connected()

    def disconnected(self) -> None:
        """The stream is over. All that is held stays."""
        self._in_flight = None
        self._demands.disconnected()

    def too_large(self, limit: int) -> bool:
        """The server refused a first request for its size: it takes `limit` bytes at most.

        True if the next stream asks for less: without versions, whose answer is complete, so that what is held and not
        in it is gone. Stays so for as long as as much is held.
        """
        if not self._with_versions:
            return False
        self._max_request = min(self._max_request, limit)
        return True

    def receive(self, response: DeltaResponse) -> Apply:
        """An answer came. `applied` must be called before the next one."""
        if self._in_flight is not None:
            raise RuntimeError("an answer while another one is being applied")
        self._in_flight = response
        kind = response.type_url
        complete = kind in self._whole
        self._whole.discard(kind)
        return Apply(response, self._ledgers.get(kind), complete)

    def applied(self, rejections: Sequence[Rejection], now: float) -> list[Effect]:
        """What was received is applied, but for `rejections`."""
        response, self._in_flight = self._in_flight, None
        if response is None:
            return []  # of a stream that is over
        effects: list[Effect] = []
        if self._is_on_demand(response.type_url):
            effects += self._answered(response, {rejection.name for rejection in rejections}, now)
        if not rejections and response.type_url in self._unsynced:
            self._unsynced.discard(response.type_url)
            if not self._unsynced:
                effects.append(Opened())
        # Last: a stream that is lost just now must not take with it what does not need it.
        return [*effects, Send(_answer(response, rejections))]

    def want(self, name: str, now: float) -> list[Absent]:
        """A connection waits for an address, a host name or a uid (§4.8); asking is for `next`."""
        if self._on_demand and self._demands.want(name, now):
            return []
        return [Absent(name)]

    def next(self, now: float) -> list[Effect]:
        """What is due: questions to ask, and to give up."""
        due = self._demands.due(now)
        effects: list[Effect] = [Absent(name) for name in due.given_up]
        kind = TYPE_ISTIO_ADDRESS
        if due.again:
            # For itself: in one request, the server would subscribe first and unsubscribe then.
            effects.append(Send(DeltaRequest(type_url=kind, unsubscribe=due.again)))
        if due.subscribe:
            effects.append(Send(DeltaRequest(type_url=kind, subscribe=due.subscribe)))
        return effects

    def wake_at(self) -> float | None:
        """When `next` has something to give; None if never."""
        return self._demands.wake_at()

    def _first(self, kind: str) -> First:
        on_demand = self._is_on_demand(kind)
        names = [EVERYTHING] if on_demand else []
        return First(
            DeltaRequest(type_url=kind, node=self._node, subscribe=names, unsubscribe=names),
            self._ledgers[kind],
            tuple(self._demands.waiting) if on_demand else (),
            self._max_request,
        )

    def _answered(self, response: DeltaResponse, rejected: set[str], now: float) -> list[Absent]:
        """Ends the waiting for all that the response names; says of what is not there that it is not."""
        waiting = self._demands.waiting
        if not waiting:
            return []
        answered = response.answers(waiting)
        # Removals follow updates: what is named by both is gone.
        gone = set(response.removed) | rejected
        absent = [name for name in answered if name in gone]
        self._demands.answered(answered)
        self._demands.absent(absent, now)
        return [Absent(name) for name in absent]

    def _is_on_demand(self, kind: str) -> bool:
        return self._on_demand and kind == TYPE_ISTIO_ADDRESS


def _answer(response: DeltaResponse, rejections: Sequence[Rejection]) -> DeltaRequest:
    error = _reasons(rejections) if rejections else None
    return DeltaRequest(type_url=response.type_url, nonce=response.nonce, error=error)


def _reasons(rejections: Sequence[Rejection]) -> str:
    """`name: reason; name: reason` (§4.5), and how many more there are if that is too long."""
    parts: list[str] = []
    size = 0
    for rejection in rejections:
        part = f"{rejection.name}: {rejection.reason}"
        size += len(part) + 2
        if parts and size > MAX_REASONS:
            parts.append(f"and {len(rejections) - len(parts)} more")
            break
        parts.append(part[:MAX_REASONS])
    return "; ".join(parts)
