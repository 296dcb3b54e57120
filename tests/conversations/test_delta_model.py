"""Random servers against a model: what is asked, applied, acknowledged and held, whatever they say and when they go.

On the data plane made of memory, and on the compiled one with its own ledger. The model is a dictionary for each type.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.delta import NODE
from ztunnel.settings import CaSettings, Listen, NodeSettings, WorkloadName
from ztunnel.testing import FakeDataPlane, FakeRejection
from ztunnel.testing.istiod import mesh
from ztunnel.wire.discovery import DeltaRequest, WireResource, WireResponse
from ztunnel.xds.delta import MAX_REQUEST, TYPES, Apply, DeltaSubscription, Effect, Opened, Send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ztunnel.dataplane.handle import DataPlane

ADDRESS, POLICY = TYPES
# Few, so that they come and go and come again.
COUNT = 6
POD = {i: f"Kubernetes//Pod/default/pod-{i}" for i in range(COUNT)}
NAMES = {
    ADDRESS: list(POD.values()),
    POLICY: [f"default/policy-{i}" for i in range(COUNT)],
}


def good(kind: str, index: int, version: str) -> WireResource:
    """A resource that any data plane takes."""
    if kind == ADDRESS:
        # The version is in it, so that the same name in another version is another thing.
        made = mesh.workload(f"pod-{index}", ip=f"10.0.0.{index + 1}", account=f"sa-{version}")
    else:
        made = mesh.policy(f"policy-{index}", ports=[1 + len(version)])
    return dataclasses.replace(made.wire(aliases=False), version=version)


def bad(kind: str, index: int, version: str) -> WireResource:
    """One that none takes."""
    return WireResource(name=NAMES[kind][index], version=version, type_url=kind, value=b"\x0a\x7f")


items = st.lists(
    st.tuples(
        st.integers(0, COUNT - 1),
        # As istiod's: hexadecimal, shorter with leading zeros left out, and none at all.
        st.sampled_from(["", "6095bc51e8a51f", "0123456789abcdef", "b98b85fe12062c5a", "v1"]),
        st.booleans(),
    ),
    unique_by=lambda item: item[0],
    max_size=COUNT,
)
removals = st.lists(st.integers(0, COUNT - 1), unique=True, max_size=COUNT)


class Learning(RuleBasedStateMachine):
    """A subscription, a server that does what it wants, and what must come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.data_plane = self.make()
        ledgers = {kind: self.data_plane.new_ledger() for kind in TYPES}
        self.subscription = DeltaSubscription(NODE, ledgers)
        self.held: dict[str, dict[str, str]] = {kind: {} for kind in TYPES}
        """The model: name and version of what was taken, by type."""
        self.mesh: dict[str, set[str]] = {kind: set() for kind in TYPES}
        """The model: what the data plane has."""
        self.whole: set[str] = set()
        self.unsynced = set(TYPES)
        self.limit = MAX_REQUEST
        self.sizes: list[int] = []
        self.with_versions = False
        self.connected = False
        self.opened = 0
        self.nonce = 0

    def make(self) -> DataPlane:
        return FakeDataPlane()

    def teardown(self) -> None:
        if isinstance(self.data_plane, FakeDataPlane):
            self.data_plane.close()
        else:
            self.data_plane.stop()

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        made = [first.perform() for first in self.subscription.connected()]
        requests = [self.subscription.begun(begun, 0.0).request for begun in made]
        self.subscription.introduced()
        self.connected, self.with_versions = True, False
        self.whole.clear()
        self.sizes = [len(request.encode()) for request in requests]
        for kind, request in zip(TYPES, requests, strict=True):
            versions = sorted(self.held[kind].items())
            expected = DeltaRequest(type_url=kind, node=NODE, initial_versions=versions)
            if len(expected.encode()) > self.limit:
                self.whole.add(kind)
                expected = DeltaRequest(type_url=kind, node=NODE)
            self.with_versions |= bool(expected.initial_versions)
            assert request.encode() == expected.encode()

    @precondition(lambda self: self.connected)
    @rule()
    def lose(self) -> None:
        """The stream ends, for whatever reason."""
        self.subscription.disconnected()
        self.connected = False

    @precondition(lambda self: self.connected)
    @rule()
    def refuse_the_size(self) -> None:
        """The server's limit is below what it was sent."""
        limit = max(self.sizes) - 1
        assert self.subscription.too_large(limit) == self.with_versions
        if self.with_versions:
            self.limit = min(self.limit, limit)
        self.lose()

    @precondition(lambda self: self.connected)
    @rule(kind=st.sampled_from(TYPES), items=items, removed=removals, acked=st.booleans())
    def answer(
        self, kind: str, items: list[tuple[int, str, bool]], removed: list[int], acked: bool
    ) -> None:
        """The server says something; not `acked`: the stream is lost before we can say that we took it."""
        self.nonce += 1
        made = [(good if ok else bad)(kind, i, version) for i, version, ok in items]
        gone = [NAMES[kind][i] for i in removed]
        refused = [NAMES[kind][i] for i, _, ok in items if not ok]
        apply = self.subscription.receive(self.read(kind, made, gone, refused))
        assert apply.complete == (kind in self.whole)
        rejections = apply.perform(self.data_plane)
        assert [rejection.name for rejection in rejections] == refused
        self.take(kind, items, gone)
        if not acked:
            self.lose()
        effects = self.subscription.applied(rejections, 0.0)
        if not acked:
            assert effects == []
            return
        self.check_answer(kind, effects, rejections)

    def read(
        self, kind: str, made: Sequence[WireResource], gone: Sequence[str], refused: Sequence[str]
    ) -> Any:
        """What the data plane reads of it."""
        if isinstance(self.data_plane, FakeDataPlane):
            self.data_plane.rejections = [
                FakeRejection(type_url=kind, name=name, reason="decode: no") for name in refused
            ]
        response = WireResponse(type_url=kind, nonce=f"n{self.nonce}", resources=made, removed=gone)
        return self.data_plane.read_delta(response.encode())

    def take(self, kind: str, items: list[tuple[int, str, bool]], gone: Sequence[str]) -> None:
        """The model's own reading of spec/control.md §4.6."""
        names = [NAMES[kind][i] for i, _, _ in items]
        if kind in self.whole:
            self.whole.discard(kind)
            # Only what is held can be known to be missing.
            missing = [name for name in self.held[kind] if name not in names]
            gone = [*gone, *missing]
        for (_, version, ok), name in zip(items, names, strict=True):
            if ok:
                self.held[kind][name] = version
                self.mesh[kind].add(name)
        for name in gone:
            self.held[kind].pop(name, None)
            self.mesh[kind].discard(name)

    def check_answer(self, kind: str, effects: Sequence[Effect], rejections: Sequence[Any]) -> None:
        expected: list[Effect] = []
        if not rejections and kind in self.unsynced:
            self.unsynced.discard(kind)
            if not self.unsynced:
                expected.append(Opened())
                self.opened += 1
        error = "; ".join(f"{each.name}: {each.reason}" for each in rejections) or None
        expected.append(Send(DeltaRequest(type_url=kind, nonce=f"n{self.nonce}", error=error)))
        assert list(effects) == expected
        assert not any(isinstance(effect, Apply) for effect in effects)

    @invariant()
    def the_mesh_is_what_the_model_says(self) -> None:
        for kind in TYPES:
            assert self.present(kind) == self.mesh[kind]
        assert self.opened == (not self.unsynced)

    def present(self, kind: str) -> set[str]:
        assert isinstance(self.data_plane, FakeDataPlane)
        return {name for of_kind, name in self.data_plane.resources if of_kind == kind}


class LearningNatively(Learning):
    """The same on the compiled data plane."""

    def make(self) -> DataPlane:
        from ztunnel.dataplane.native import NativeDataPlane

        node = NodeSettings(
            workload=WorkloadName(namespace="default", name="pod-0"),
            ca=CaSettings(directory=None),
            listen=Listen(),
            log_level="off",
            workers=1,
        )
        return NativeDataPlane(node.to_native("sa"))

    def present(self, kind: str) -> set[str]:
        import json

        if kind == ADDRESS:
            return {each["uid"] for each in json.loads(self.data_plane.dump("workloads"))}
        policies = json.loads(self.data_plane.dump("policies"))
        return {f"{each['namespace']}/{each['name']}" for each in policies}


Learning.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
LearningNatively.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLearning = pytest.mark.timeout(120)(Learning.TestCase)
TestLearningNatively = pytest.mark.timeout(120)(LearningNatively.TestCase)
