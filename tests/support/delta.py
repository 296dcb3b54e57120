"""Delta ADS told as a story: `>>` is what happens to a subscription, `<<` is all that it then wants done.

    Story() >> connected() << subscribe(ADDRESS) << subscribe(POLICY) \\
        >> response(ADDRESS, [web], nonce="1") << apply([web]) \\
        >> applied() << ack(ADDRESS, "1")

The data plane is made of memory. Counterpart: `ztunnel.xds.delta`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ztunnel.dataplane.handle import TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION
from ztunnel.settings import XdsNode
from ztunnel.testing import FakeDataPlane, FakeRejection, ManualClock
from ztunnel.testing.delta import DictLedger, ReadResponse
from ztunnel.wire.discovery import DeltaRequest, WireResource, WireResponse
from ztunnel.xds.delta import Absent, Apply, DeltaSubscription, Effect, Opened, Send
from ztunnel.xds.node import wire_node

ADDRESS, POLICY = TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION
NODE = wire_node(XdsNode(pod="zt", namespace="istio-system", instance_ip="10.0.0.9", name="node-a"))


def named(name: str, version: str = "", aliases: tuple[str, ...] = ()) -> WireResource:
    """A resource whose payload is its own name, which is good enough for a data plane of memory."""
    return WireResource(
        name=name, version=version, aliases=aliases, type_url=ADDRESS, value=name.encode()
    )


@dataclass
class Story:
    """A conversation under way."""

    on_demand: bool = False
    clock: ManualClock = field(default_factory=ManualClock)
    waiting: list[Effect] = field(default_factory=list)
    to_apply: Apply | None = None

    def __post_init__(self) -> None:
        self.data_plane = FakeDataPlane()
        self.ledgers = {kind: DictLedger() for kind in (ADDRESS, POLICY)}
        self.subscription = DeltaSubscription(NODE, self.ledgers, on_demand=self.on_demand)

    @property
    def now(self) -> float:
        return self.clock.now().monotonic

    def __rshift__(self, step: Step) -> Story:
        assert self.waiting == [], "effects that the story does not tell of"
        self.waiting += step(self)
        return self

    def __lshift__(self, expected: object) -> Story:
        assert self.waiting, f"nothing happens, but the story tells of {expected}"
        effect = self.waiting.pop(0)
        seen: object = effect.request if isinstance(effect, Send) else effect
        if isinstance(effect, Apply):
            assert isinstance(effect.response, ReadResponse)
            seen = Applying([each.name for each in effect.response.resources], effect.complete)
        assert _as_on_the_wire(seen) == _as_on_the_wire(expected)
        return self

    def end(self) -> None:
        """Nothing more happens."""
        assert self.waiting == []
        self.data_plane.close()


def _as_on_the_wire(step: object) -> object:
    """A list and a tuple of the same are the same."""
    return DeltaRequest.decode(step.encode()) if isinstance(step, DeltaRequest) else step


Step: TypeAlias = Callable[[Story], Sequence[Effect]]


@dataclass(frozen=True)
class Applying:
    """What is handed to the data plane."""

    names: list[str]
    complete: bool = False


# What happens


def connected() -> Step:
    """A stream begins, and its first requests are sent."""

    def step(story: Story) -> Sequence[Effect]:
        firsts = [first.perform() for first in story.subscription.connected()]
        requests = [story.subscription.begun(begun, story.now) for begun in firsts]
        story.subscription.introduced()
        return requests

    return step


def disconnected() -> Step:
    """The stream ends."""

    def step(story: Story) -> Sequence[Effect]:
        story.subscription.disconnected()
        return []

    return step


def response(
    kind: str, resources: Sequence[WireResource] = (), *, nonce: str, removed: Sequence[str] = ()
) -> Step:
    """The server says something."""

    def step(story: Story) -> Sequence[Effect]:
        message = WireResponse(type_url=kind, nonce=nonce, resources=resources, removed=removed)
        read = story.data_plane.read_delta(message.encode())
        story.to_apply = story.subscription.receive(read)
        return [story.to_apply]

    return step


def applied(**refused: str) -> Step:
    """The data plane has applied it, but for some (name and reason)."""

    def step(story: Story) -> Sequence[Effect]:
        assert story.to_apply is not None
        kind = story.to_apply.response.type_url
        story.data_plane.rejections = [
            FakeRejection(type_url=kind, name=name, reason=reason)
            for name, reason in refused.items()
        ]
        rejections = story.to_apply.perform(story.data_plane)
        return story.subscription.applied(rejections, story.now)

    return step


def want(name: str) -> Step:
    """A connection waits for a name."""

    def step(story: Story) -> Sequence[Effect]:
        told = story.subscription.want(name, story.now)
        return [*told, *story.subscription.next(story.now)]

    return step


def later(seconds: float) -> Step:
    """Time passes."""

    def step(story: Story) -> Sequence[Effect]:
        wake_at = story.subscription.wake_at()
        story.clock.pass_time(seconds)
        due = story.subscription.next(story.now)
        assert not due or (wake_at is not None and wake_at <= story.now), "nobody would have woken"
        return due

    return step


# What is to be done


def subscribe(kind: str, *, initial: dict[str, str] | None = None, star: bool = False) -> object:
    """A first request."""
    names = ["*"] if star else []
    return DeltaRequest(
        type_url=kind,
        node=NODE,
        subscribe=names,
        unsubscribe=names,
        initial_versions=sorted((initial or {}).items()),
    )


def demand(*names: str) -> object:
    """A question."""
    return DeltaRequest(type_url=ADDRESS, subscribe=list(names))


def withdraw(*names: str) -> object:
    """The end of one."""
    return DeltaRequest(type_url=ADDRESS, unsubscribe=list(names))


def apply(*names: str, complete: bool = False) -> object:
    """To be handed to the data plane."""
    return Applying(list(names), complete)


def ack(kind: str, nonce: str) -> object:
    """Taken."""
    return DeltaRequest(type_url=kind, nonce=nonce)


def nack(kind: str, nonce: str, error: str) -> object:
    """Not taken as a whole."""
    return DeltaRequest(type_url=kind, nonce=nonce, error=error)


def absent(name: str) -> object:
    """Nobody has it."""
    return Absent(name)


OPENED = Opened()
