"""Names that are waited for: whatever happens in whatever order, every wait ends in time, and nothing grows."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ztunnel.xds import demand
from ztunnel.xds.demand import ABSENCE, PATIENCE, SILENCE, Demands

names = st.sampled_from([f"n{i}" for i in range(8)])
NOBODY: list[str] = []


class Waiting(RuleBasedStateMachine):
    """Demands, and a plain account of who waits since when."""

    def __init__(self) -> None:
        super().__init__()
        self.demands = Demands()
        self.now = 0.0
        self.since: dict[str, float] = {}
        self.asked: dict[str, list[float]] = {}
        """When each name that is waited for was asked for on this stream."""
        self.absent_until: dict[str, float] = {}
        self.connected = False

    @rule(name=names)
    def want(self, name: str) -> None:
        taken = self.demands.want(name, self.now)
        if name in self.since:
            assert taken
        elif self.absent_until.get(name, self.now) > self.now:
            assert not taken
        else:
            assert taken
            self.since[name] = self.now
            self.asked[name] = []

    @rule(whole=st.booleans())
    def connect(self, whole: bool) -> None:
        self.absent_until.clear()
        asked = NOBODY if whole else list(self.since)
        self.demands.begin(asked, self.now)
        self.demands.connected()
        self.connected = True
        self.asked = {name: [self.now] if name in asked else [] for name in self.since}

    @rule()
    def disconnect(self) -> None:
        self.demands.disconnected()
        self.connected = False

    @rule(seconds=st.sampled_from([0.0, 0.25, SILENCE, 2.0, PATIENCE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        wake_at = self.demands.wake_at()
        due = self.demands.due(self.now)
        if due.subscribe or due.given_up:
            assert wake_at is not None
            assert wake_at <= self.now
        assert set(due.again) <= set(due.subscribe)
        for name in due.given_up:
            assert self.now - self.since.pop(name) >= PATIENCE
            del self.asked[name]
            self.absent_until[name] = self.now + ABSENCE
        for name in due.subscribe:
            assert self.connected
            before = self.asked[name]
            assert len(before) < 2, "asked for a third time"
            if before:
                assert self.now - before[-1] >= SILENCE
                assert name in due.again, "without unsubscribing, there would be no answer"
            before.append(self.now)
        assert self.demands.due(self.now) == demand.Due(), "due twice"

    @rule(name=names)
    def answer(self, name: str) -> None:
        self.demands.answered([name])
        self.since.pop(name, None)
        self.asked.pop(name, None)
        self.absent_until.pop(name, None)

    @rule(name=names)
    def miss(self, name: str) -> None:
        if name in self.since:
            self.demands.absent([name], self.now)
            del self.since[name], self.asked[name]
            self.absent_until[name] = self.now + ABSENCE

    @invariant()
    def who_waits_is_known(self) -> None:
        assert sorted(self.demands.waiting) == sorted(self.since)
        if self.since:
            wake_at = self.demands.wake_at()
            assert wake_at is not None
            assert wake_at <= min(self.since.values()) + PATIENCE


Waiting.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestWaiting = pytest.mark.timeout(120)(Waiting.TestCase)


def test_what_is_remembered_is_bounded() -> None:
    demands = Demands()
    demands.begin((), 0.0)
    demands.connected()
    for i in range(demand.MAX_REMEMBERED + 100):
        assert demands.want(f"n{i}", 0.0)
        demands.due(0.0)
        demands.absent([f"n{i}"], 0.0)
    assert len(demands._asked) == demand.MAX_REMEMBERED
    assert len(demands._absent) == demand.MAX_REMEMBERED
