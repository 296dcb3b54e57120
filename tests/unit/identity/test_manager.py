"""The manager: schedule, authority and data plane together, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from ztunnel.errors import CaError, CaUnavailable, CredentialError
from ztunnel.identity.manager import ANSWER_DEADLINE, CertificateManager
from ztunnel.identity.schedule import Priority
from ztunnel.identity.spiffe import Identity
from ztunnel.tasks import FailurePolicy, Tasks
from ztunnel.testing import FakeCa, FakeDataPlane, ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WEB = "spiffe://cluster.local/ns/default/sa/web"
SHOP = "spiffe://cluster.local/ns/default/sa/shop"


class World(SimpleNamespace):
    """A manager and those around it."""

    clock: ManualClock
    ca: FakeCa
    data_plane: FakeDataPlane
    manager: CertificateManager


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = ManualClock()
    ca, data_plane = FakeCa(clock), FakeDataPlane()
    manager = CertificateManager(data_plane=data_plane, ca=ca, clock=clock, random=lambda: 0.5)
    async with Tasks(clock) as tasks:
        tasks.start("certificates", manager.run)
        yield World(clock=clock, ca=ca, data_plane=data_plane, manager=manager)
    data_plane.close()


@pytest.mark.asyncio
async def test_a_wish_ends_with_a_certificate_on_a_fresh_key() -> None:
    async with world() as w:
        w.manager.want(WEB, Priority.WARMUP)
        assert await w.manager.first_outcome(WEB) is None
        assert w.data_plane.certificates == {WEB: f"chain 1 for {WEB} key 1".encode()}


@pytest.mark.asyncio
async def test_a_renewal_has_a_new_key_and_comes_at_half_life() -> None:
    async with world() as w:
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.advance(1799)
        assert len(w.ca.asked) == 1
        await w.clock.advance(2)
        assert w.data_plane.certificates == {WEB: f"chain 2 for {WEB} key 2".encode()}


@pytest.mark.asyncio
async def test_renewal_failure_keeps_the_old_certificate(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        before = dict(w.data_plane.certificates)
        w.ca.trouble = lambda identity: CaUnavailable("out for lunch")
        with caplog.at_level(logging.WARNING, logger="ztunnel"):
            await w.clock.advance(1802)
        assert w.data_plane.certificates == before
        assert len(w.ca.asked) >= 2
        assert "no new certificate; asking again" in caplog.text
        w.ca.trouble = lambda identity: None
        await w.clock.advance(10)
        assert w.data_plane.certificates != before


@pytest.mark.asyncio
async def test_a_certificate_that_the_data_plane_refuses_is_a_failure_like_any_other() -> None:
    async with world() as w:
        w.data_plane.refusal = CredentialError("leaf is of another key")
        w.manager.want(WEB, Priority.REALTIME)
        assert await w.manager.first_outcome(WEB) == "leaf is of another key"
        w.data_plane.refusal = None
        await w.clock.advance(2)
        assert WEB in w.data_plane.certificates


@pytest.mark.asyncio
async def test_an_authority_that_never_answers_is_given_up_and_asked_again() -> None:
    async with world() as w:
        w.ca.answering.clear()
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.advance(ANSWER_DEADLINE + 0.1)
        assert "no answer" in str(await w.manager.first_outcome(WEB))
        w.ca.answering.set()
        await w.clock.advance(2)
        assert WEB in w.data_plane.certificates


@pytest.mark.asyncio
async def test_an_authority_that_breaks_its_contract_stops_nobody_else() -> None:
    def trouble(identity: object) -> CaError | None:
        if str(identity) == WEB:
            raise ZeroDivisionError
        return None

    async with world() as w:
        w.ca.trouble = trouble
        w.manager.want(WEB, Priority.WARMUP)
        w.manager.want(SHOP, Priority.WARMUP)
        assert await w.manager.first_outcome(SHOP) is None
        w.ca.trouble = lambda identity: None
        await w.clock.advance(2)
        assert set(w.data_plane.certificates) == {WEB, SHOP}


@pytest.mark.asyncio
async def test_one_slow_request_delays_no_other() -> None:
    async with world() as w:
        w.ca.answering.clear()
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        w.ca.answering.set()
        w.manager.want(SHOP, Priority.WARMUP)
        await w.clock.settle()
        assert SHOP in w.data_plane.certificates


@pytest.mark.asyncio
async def test_what_is_forgotten_leaves_the_data_plane_and_does_not_come_back() -> None:
    async with world() as w:
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        w.manager.forget(WEB)
        await w.clock.advance(7200)
        assert w.data_plane.certificates == {}
        assert len(w.ca.asked) == 1


@pytest.mark.asyncio
async def test_an_answer_that_comes_after_the_wish_was_withdrawn_is_not_installed() -> None:
    async with world() as w:
        w.ca.answering.clear()
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        w.manager.forget(WEB)
        w.ca.answering.set()
        await w.clock.advance(10)
        assert w.data_plane.certificates == {}


@pytest.mark.asyncio
async def test_a_clock_set_forward_is_noticed_within_five_seconds() -> None:
    async with world() as w:
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        w.clock.jump(7200)
        await w.clock.advance(5)
        assert len(w.ca.asked) == 2


@pytest.mark.asyncio
async def test_a_wish_for_something_that_is_no_identity_is_logged_and_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        with caplog.at_level(logging.WARNING, logger="ztunnel"):
            w.manager.want("nobody", Priority.REALTIME)
            w.manager.forget("nobody")
            await w.clock.settle()
        assert w.ca.asked == []
        assert "no identity" in caplog.text


@pytest.mark.asyncio
async def test_what_has_not_come_is_told_with_the_reason() -> None:
    async with world() as w:
        w.ca.trouble = lambda identity: CaUnavailable("out for lunch")
        w.manager.want(WEB, Priority.WARMUP)
        w.manager.want(SHOP, Priority.WARMUP)
        assert w.manager.states() == {WEB: "Initializing", SHOP: "Initializing"}
        await w.clock.settle()
        assert w.manager.states() == dict.fromkeys((WEB, SHOP), "Unavailable: out for lunch")
        w.manager.want(WEB, Priority.REALTIME)
        w.manager.forget(SHOP)
        assert w.manager.states() == {WEB: "Unavailable: out for lunch"}
        w.ca.trouble = lambda identity: None
        await w.clock.advance(10)
        assert w.manager.states() == {}
        # A renewal that fails changes nothing: the old one is in use.
        w.ca.trouble = lambda identity: CaUnavailable("out for lunch")
        await w.clock.advance(1802)
        w.manager.want(WEB, Priority.REALTIME)
        assert w.manager.states() == {}


@pytest.mark.asyncio
async def test_row_3_connections_are_told_at_once_that_there_is_none_and_a_retry_mends_it() -> None:
    async with world() as w:
        w.ca.trouble = lambda identity: CaUnavailable("out for lunch")
        w.manager.want(WEB, Priority.REALTIME)
        assert await w.manager.first_outcome(WEB) == "out for lunch"
        assert w.data_plane.failures == {WEB: "out for lunch"}
        w.manager.want(WEB, Priority.REALTIME)
        await w.clock.settle()
        assert len(w.ca.asked) == 1, "the same answer without another request"
        w.ca.trouble = lambda identity: None
        await w.clock.advance(1.3)
        assert w.data_plane.failures == {}
        assert WEB in w.data_plane.certificates


@pytest.mark.asyncio
async def test_a_renewal_that_fails_is_no_reason_to_turn_connections_away() -> None:
    async with world() as w:
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        w.ca.trouble = lambda identity: CaUnavailable("out for lunch")
        await w.clock.advance(1802)
        assert len(w.ca.asked) >= 2
        assert w.data_plane.failures == {}


@pytest.mark.asyncio
async def test_row_5_who_waits_for_what_is_forgotten_is_told_so_and_it_may_be_wanted_again() -> (
    None
):
    async with world() as w:
        w.ca.answering.clear()
        w.manager.want(WEB, Priority.WARMUP)
        waiting = asyncio.ensure_future(w.manager.first_outcome(WEB))
        await w.clock.settle()
        w.manager.forget(WEB)
        assert await waiting == "the identity is no longer needed"
        w.ca.answering.set()
        await w.clock.advance(3600)
        assert w.data_plane.certificates == {}
        assert len(w.ca.asked) == 1
        w.manager.want(WEB, Priority.WARMUP)
        assert await w.manager.first_outcome(WEB) is None


@pytest.mark.asyncio
async def test_a_hundred_identities_are_fetched_beside_one_that_hangs() -> None:
    crowd = [f"spiffe://cluster.local/ns/crowd/sa/w{n}" for n in range(100)]
    async with world() as w:
        w.ca.answering.clear()
        w.manager.want(WEB, Priority.WARMUP)
        await w.clock.settle()
        w.ca.answering = asyncio.Event()
        w.ca.answering.set()
        for identity in crowd:
            w.manager.want(identity, Priority.WARMUP)
            w.manager.want(identity, Priority.WARMUP)
        for _ in range(20):  # eight at once, so more turns of the loop than others need
            await w.clock.settle()
        assert set(w.data_plane.certificates) == set(crowd)
        assert len(w.ca.asked) == 101, "one request each, however many ask"


@pytest.mark.asyncio
async def test_the_only_certificate_is_used_even_if_it_does_not_count_now_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        w.ca.lifetime = -5.0
        w.manager.want(WEB, Priority.WARMUP)
        assert await w.manager.first_outcome(WEB) is None
        assert WEB in w.data_plane.certificates
        (line,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert "ended 5 s before it came; are the clocks right?" in line.getMessage()


@pytest.mark.asyncio
async def test_what_was_being_asked_for_is_asked_for_again_by_the_next_run() -> None:
    async with world() as w:
        w.ca.answering.clear()
        w.manager.want(WEB, Priority.REALTIME)
        await w.clock.settle()
    w.ca.answering.set()
    async with Tasks(w.clock) as tasks:
        tasks.start("certificates", w.manager.run)
        await w.clock.advance(2)
        assert w.ca.asked == [Identity.parse(WEB)] * 2


@pytest.mark.asyncio
async def test_what_was_not_even_asked_for_yet_is_asked_for_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, data_plane = ManualClock(), FakeDataPlane()
    ca = FakeCa(clock)
    manager = CertificateManager(data_plane=data_plane, ca=ca, clock=clock, random=lambda: 0.5)
    manager.want(WEB, Priority.REALTIME)

    async def fail() -> None:
        # In the moment in which the requests' tasks are there and have not begun.
        monkeypatch.undo()
        raise RuntimeError("broken")

    monkeypatch.setattr(manager, "_wait", fail)
    async with Tasks(clock) as tasks:
        tasks.start("certificates", manager.run, on_failure=FailurePolicy.RESTART)
        await clock.advance(5)
        assert WEB in data_plane.certificates
    assert ca.asked == [Identity.parse(WEB)]
    data_plane.close()
