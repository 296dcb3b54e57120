"""istiod's side of one delta ADS stream: requests and events of the cluster in, responses out (istio.md A3.4–A3.6).

Never opens a socket and never looks at a clock; `server.py` does both for it. Counterpart: `ztunnel.xds.delta`.

For each type that a stream has asked for there is a watch:

    first request, no names         → wildcard: everything, even if that is nothing
    first request, +[*] −[*]        → on demand: the node's own workloads, and what is asked for by name
    initial_resource_versions       → equal ones are left out, names that nobody knows are removed ones
    nonce of the last response      → ACK or NACK: noted, no answer
    any other nonce                 → stale: not even noted as an answer
    no nonce, a name that is new    → that name, or its absence
    no nonce, nothing new           → a breach of the protocol: no answer (recorded), so never wait without an end
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ztunnel.testing.istiod.resources import ADDRESS, TYPES, Resource
from ztunnel.wire.discovery import WireResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ztunnel.testing.istiod.cluster import Change, Cluster
    from ztunnel.wire.discovery import DeltaRequest, WireNode

EVERYTHING = "*"


class Verdict(enum.Enum):
    """What a request was."""

    ACK = enum.auto()
    BREACH = enum.auto()
    """It broke the protocol, and nobody answers."""
    FIRST = enum.auto()
    """Of its type on this stream."""
    NACK = enum.auto()
    STALE = enum.auto()
    """An answer to a response that is not the last one."""
    SUBSCRIPTION = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a request comes to."""

    verdict: Verdict
    responses: tuple[WireResponse, ...] = ()


@dataclass(slots=True, kw_only=True)
class Watch:
    """What a stream has asked for of one type."""

    wildcard: bool
    names: set[str] = field(default_factory=set)
    """On demand: asked for, or sent unasked."""
    sent: str = ""
    """The nonce of the last response."""
    error: str | None = None
    """Why the last response was refused, if it was."""


def plain_nonce(push: str) -> str:
    """As istiod makes them: the push's version and a UUID, without anything in between."""
    return f"{push}{uuid.uuid4()}"


def admit_everybody(node: WireNode | None) -> str:
    """Judges nothing; the stricter one is `callers.admit`."""
    return str(dict(node.metadata).get("NODE_NAME", "")) if node else ""


class AdsStream:
    """One stream's conversation."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        epoch: str = "2026-01-01T00:00:00Z",
        nonce: Callable[[str], str] = plain_nonce,
        admit: Callable[[WireNode | None], str] = admit_everybody,
    ) -> None:
        """`epoch` begins every push version; `admit` judges the node of the first request, and names its Node."""
        self.watches: dict[str, Watch] = {}
        self.node: WireNode | None = None
        self._cluster = cluster
        self._epoch = epoch
        self._nonce = nonce
        self._admit = admit
        self._node_name = ""
        self._started = False

    def receive(self, request: DeltaRequest) -> Step:
        """Answer one request; raises what `admit` raises."""
        if not self._started:
            self._node_name = self._admit(request.node)
            self._started, self.node = True, request.node
        watch = self.watches.get(request.type_url)
        if watch is None:
            return self._first(request)
        if request.nonce and request.nonce != watch.sent:
            return Step(verdict=Verdict.STALE)
        if request.error is not None:
            watch.error = request.error
            return Step(verdict=Verdict.NACK)
        changed = _subscribed(watch.names, request) != watch.names
        watch.names = _subscribed(watch.names, request)
        if request.nonce:
            watch.error = None
            return Step(verdict=Verdict.BREACH if changed else Verdict.ACK)
        if not changed:
            return Step(verdict=Verdict.BREACH)
        return self._demanded(watch, request)

    def push(self, change: Change) -> list[WireResponse]:
        """What this stream is told of an event: nothing, if it concerns nothing that was asked for."""
        found: list[WireResponse] = []
        for type_url in TYPES:
            watch = self.watches.get(type_url)
            if watch is None:
                continue
            put = [
                each
                for each in change.put
                if each.type_url == type_url and self._cares(watch, each)
            ]
            removed = [
                name
                for of_type, name in change.removed
                if of_type == type_url and (watch.wildcard or name in watch.names)
            ]
            if put or removed:
                found.append(self._response(type_url, watch, put, removed))
        return found

    def push_all(self) -> list[WireResponse]:
        """A full push: everything again, whether it has changed or not."""
        found = []
        for type_url in TYPES:
            if (watch := self.watches.get(type_url)) is not None:
                held = [r for r in self._cluster.all(type_url) if self._cares(watch, r)]
                found.append(self._response(type_url, watch, held, ()))
        return found

    def push_nothing(self) -> list[WireResponse]:
        """A push without content, which istiod also sends."""
        return [
            self._response(type_url, self.watches[type_url], (), ())
            for type_url in TYPES
            if type_url in self.watches
        ]

    def _first(self, request: DeltaRequest) -> Step:
        asked = set(request.subscribe) | set(request.unsubscribe)
        # An Authorization is never on demand, whatever a client says.
        wildcard = request.type_url != ADDRESS or not asked
        held = dict(request.initial_versions)
        watch = Watch(wildcard=wildcard)
        watch.names = set() if wildcard else _subscribed(set(held), request)
        self.watches[request.type_url] = watch
        if request.type_url not in TYPES:
            # Nobody generates such resources.
            return Step(verdict=Verdict.FIRST)
        if wildcard:
            wanted = self._cluster.all(request.type_url)
            missing = [n for n in held if self._cluster.get(request.type_url, n) is None]
        else:
            wanted, missing = self._found(watch.names)
            local = self._cluster.on_node(self._node_name)
            wanted = _distinct([*wanted, *local])
        # A policy has no version, so it is always sent again.
        news = [r for r in wanted if not r.version or held.get(r.name) != r.version]
        response = self._response(
            request.type_url, watch, news, missing, subscribed=[r.name for r in wanted]
        )
        return Step(verdict=Verdict.FIRST, responses=(response,))

    def _demanded(self, watch: Watch, request: DeltaRequest) -> Step:
        wanted, missing = self._found(name for name in request.subscribe if name != EVERYTHING)
        if not wanted and not missing:
            return Step(verdict=Verdict.SUBSCRIPTION)
        response = self._response(request.type_url, watch, wanted, missing)
        return Step(verdict=Verdict.SUBSCRIPTION, responses=(response,))

    def _found(self, names: Iterable[str]) -> tuple[list[Resource], list[str]]:
        wanted: list[Resource] = []
        missing: list[str] = []
        for name in names:
            found = self._cluster.lookup(name)
            wanted += found
            missing += [] if found else [name]
        return _distinct(wanted), missing

    def _cares(self, watch: Watch, resource: Resource) -> bool:
        # Aliases do not count: a key that missed is not told when its pod appears (istio.md A3.5, trap 2).
        return (
            watch.wildcard
            or resource.name in watch.names
            or (resource.facts.node != "" and resource.facts.node == self._node_name)
            or any(service in watch.names for service in resource.facts.services)
        )

    def _response(
        self,
        type_url: str,
        watch: Watch,
        put: Iterable[Resource],
        removed: Iterable[str],
        *,
        subscribed: Iterable[str] = (),
    ) -> WireResponse:
        put = tuple(put)
        if not watch.wildcard:
            watch.names |= {resource.name for resource in put} | set(subscribed)
        push = f"{self._epoch}/{self._cluster.pushes}"
        watch.sent = self._nonce(push)
        return WireResponse(
            type_url=type_url,
            nonce=watch.sent,
            version=push,
            resources=tuple(each.wire(aliases=not watch.wildcard) for each in put),
            removed=tuple(removed),
        )


def _subscribed(names: set[str], request: DeltaRequest) -> set[str]:
    """Unsubscribing wins within one request, which is how `*` both ways means nothing at all."""
    return (names | set(request.subscribe)) - set(request.unsubscribe)


def _distinct(resources: Iterable[Resource]) -> list[Resource]:
    return list({each.name: each for each in resources}.values())
