"""The recorded conversations with a real istiod: told what it said, we say what was said to it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.delta import ADDRESS, POLICY
from ztunnel.environment.config import Machine
from ztunnel.environment.control_plane import xds_node
from ztunnel.environment.reading import read_config
from ztunnel.environment.variables import Variables
from ztunnel.testing import FakeDataPlane, FakeRejection
from ztunnel.wire.discovery import DeltaRequest
from ztunnel.xds.delta import Absent, DeltaSubscription, Effect, Opened, Send
from ztunnel.xds.node import wire_node

VECTORS = Path(__file__).parents[1] / "vectors" / "istiod" / "conversations"
# What the recording's client was: told as the Helm chart tells it.
ENVIRONMENT = {
    "POD_NAME": "zt-a",
    "POD_NAMESPACE": "istio-system",
    "NODE_NAME": "node-a",
    "INSTANCE_IP": "10.66.0.1",
    "ISTIO_META_CLUSTER_ID": "Kubernetes",
    "ISTIO_META_ISTIO_VERSION": "1.30.0",
}


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (VECTORS / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def raw(line: dict[str, Any]) -> bytes:
    return base64.b64decode(line["raw"])


class Replay:
    """A subscription that is told what istiod said, and held to what istiod was told."""

    def __init__(self, *, on_demand: bool = False) -> None:
        config = read_config(Variables(ENVIRONMENT), Machine(cores=1))
        self.data_plane = FakeDataPlane()
        ledgers = {kind: self.data_plane.new_ledger() for kind in (ADDRESS, POLICY)}
        node = wire_node(xds_node(config))
        self.subscription = DeltaSubscription(node, ledgers, on_demand=on_demand)
        self.said: list[DeltaRequest] = []
        self.absent: list[str] = []
        self.opened = 0
        self.now = 0.0

    def connect(self) -> None:
        self.subscription.disconnected()
        for first in self.subscription.connected():
            self.do([self.subscription.begun(first.perform(), self.now)])
        self.subscription.introduced()

    def hear(self, message: bytes, reject: list[FakeRejection] | None = None) -> None:
        answer = self.subscription.receive(self.data_plane.read_delta(message))
        self.data_plane.rejections = reject or []
        rejections = answer.perform(self.data_plane)
        self.do(self.subscription.applied(rejections, self.now))

    def want(self, name: str) -> None:
        self.do(self.subscription.want(name, self.now))
        self.do(self.subscription.next(self.now))

    def do(self, effects: list[Effect] | list[Send] | list[Absent]) -> None:
        for effect in effects:
            match effect:
                case Send(request):
                    self.said.append(request)
                case Absent(name):
                    self.absent.append(name)
                case Opened():
                    self.opened += 1
                case _:
                    raise AssertionError(effect)

    def expect(self, message: bytes) -> None:
        """The next thing we said is this, but for the order of maps, which nobody gives."""
        said = self.said.pop(0)
        assert in_order(said) == in_order(DeltaRequest.decode(message))
        # With maps in the recorded order, it is the same byte for byte.
        assert len(said.encode()) == len(message)


def in_order(request: DeltaRequest) -> tuple[object, ...]:
    node = request.node and (request.node.id, sorted(request.node.metadata))
    return (
        request.type_url,
        node,
        list(request.subscribe),
        list(request.unsubscribe),
        sorted(request.initial_versions),
        request.nonce,
        request.error,
    )


def test_the_first_sync_and_changes_are_answered_as_recorded() -> None:
    replay = Replay()
    replay.connect()
    for line in recorded("delta-session"):
        if line["dir"] == "to istiod":
            replay.expect(raw(line))
        elif line["dir"] == "from istiod":
            replay.hear(raw(line))
    assert replay.said == []
    assert replay.opened == 1
    addresses = [name for kind, name in replay.data_plane.resources if kind == ADDRESS]
    policies = [name for kind, name in replay.data_plane.resources if kind == POLICY]
    assert (len(addresses), len(policies)) == (25, 7)
    assert "Kubernetes//Pod/shop/web-3" not in addresses
    replay.data_plane.close()


def test_the_first_request_is_the_recorded_one_byte_for_byte() -> None:
    replay = Replay()
    replay.connect()
    first = raw(recorded("delta-session")[0])
    was = DeltaRequest.decode(first)
    is_now = replay.said[0]
    assert was.node is not None
    assert is_now.node is not None
    order = [name for name, _ in was.node.metadata]
    metadata = sorted(is_now.node.metadata, key=lambda each: order.index(each[0]))
    node = type(is_now.node)(id=is_now.node.id, metadata=tuple(metadata))
    assert DeltaRequest(type_url=is_now.type_url, node=node).encode() == first
    replay.data_plane.close()


def test_a_stream_is_resumed_as_recorded_and_nothing_is_sent_again() -> None:
    """A5 row 5. The recording's two streams are one client's after `delta-session`."""
    replay = Replay()
    replay.connect()
    for line in recorded("delta-session"):
        if line["dir"] == "from istiod":
            replay.hear(raw(line))
    replay.said.clear()
    lines = recorded("delta-resume")
    until = next(i for i, line in enumerate(lines) if line["dir"] == "status")
    before = len(replay.data_plane.applied)
    replay.connect()
    for line in lines[:until]:
        if line["dir"] == "to istiod":
            replay.expect(raw(line))
        elif line["dir"] == "from istiod":
            replay.hear(raw(line))
    assert replay.said == []
    addresses, policies = replay.data_plane.applied[before:]
    assert addresses == ([], [])
    assert (len(policies[0]), policies[1]) == (7, [])
    replay.data_plane.close()


def test_what_istiod_says_is_gone_is_forgotten_although_it_was_never_held() -> None:
    """The recording's second stream, whose client named something that never was."""
    replay = Replay()
    replay.connect()
    lines = recorded("delta-resume")
    until = next(i for i, line in enumerate(lines) if line["dir"] == "status")
    heard = [raw(line) for line in lines[until:] if line["dir"] == "from istiod"]
    acks = [raw(line) for line in lines[until:] if line["dir"] == "to istiod"][2:]
    replay.said.clear()
    for message in heard:
        replay.hear(message)
    for ack in acks:
        replay.expect(ack)
    names = [name for kind, name in replay.data_plane.resources if kind == ADDRESS]
    assert names == ["Kubernetes//Pod/shop/db-0"]
    replay.data_plane.close()


def test_names_are_asked_for_and_answered_as_recorded() -> None:
    replay = Replay(on_demand=True)
    replay.connect()
    for line in recorded("delta-on-demand"):
        if line["dir"] == "event" and line["note"].startswith("subscribe "):
            # Time for what was asked before to be over, in which two got no answer at all.
            replay.now += 0.1
            replay.want(line["note"].removeprefix("subscribe "))
        elif line["dir"] == "to istiod":
            replay.expect(raw(line))
        elif line["dir"] == "from istiod":
            replay.hear(raw(line))
    assert replay.said == []
    assert replay.opened == 1
    assert replay.absent == ["/10.1.2.3", "shop/none.example"]
    # The two names that had been sent already: nothing came, and nobody waits for ever.
    waits = replay.subscription.wake_at()
    assert waits is not None
    replay.do(replay.subscription.next(10.0))
    assert replay.absent[2:] == ["Kubernetes//Pod/shop/web-2", "shop/web.shop.svc.cluster.local"]
    assert replay.subscription.wake_at() is None
    replay.data_plane.close()


def test_a_refusal_reads_as_recorded_and_the_stream_goes_on() -> None:
    """A5 row 6."""
    replay = Replay()
    replay.connect()
    bad = [FakeRejection(type_url="", name="podX", reason="decode failed")]
    lines = recorded("delta-nack")
    goes_on = next(i for i, x in enumerate(lines) if x.get("note") == "the stream goes on")
    for line in lines[:goes_on]:
        if line["dir"] == "from istiod":
            replay.hear(raw(line), bad)
    for line in lines[:goes_on]:
        if line["dir"] == "to istiod":
            replay.expect(raw(line))
    assert replay.opened == 0
    for line in lines[goes_on:]:
        if line["dir"] == "from istiod":
            replay.hear(raw(line))
        elif line["dir"] == "to istiod":
            replay.expect(raw(line))
    assert replay.said == []
    replay.data_plane.close()


@pytest.mark.parametrize("name", ["delta-bad-token", "delta-session", "delta-nack"])
def test_every_recorded_stream_begins_as_ours_does(name: str) -> None:
    """A5 row 4, as far as bytes go."""
    replay = Replay()
    replay.connect()
    firsts = [line for line in recorded(name) if line["dir"] == "to istiod"][:2]
    for line in firsts:
        replay.expect(raw(line))
    replay.data_plane.close()
