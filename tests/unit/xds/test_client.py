"""The stream's keeper, with streams made of memory and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.delta import ADDRESS, POLICY, named
from tests.support.memory_ads import MemoryServer
from ztunnel.endpoint import Endpoint, SystemRoots
from ztunnel.errors import DataPlaneClosed, EndpointUnreachable, StreamEnded, StreamLost
from ztunnel.settings import XdsNode, XdsSettings
from ztunnel.testing import FakeDataPlane, FakeRejection, ManualClock
from ztunnel.xds import client as module
from ztunnel.xds.client import AdsClient
from ztunnel.xds.delta import Begun, First
from ztunnel.xds.demand import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ztunnel.dataplane.handle import DeltaResponse

pytestmark = pytest.mark.asyncio

ENDPOINT = Endpoint(host="istiod", port=15012, roots=SystemRoots(), cluster_id="c")


class Running:
    """A client, and what it was given."""

    def __init__(self, *, on_demand: bool = False) -> None:
        self.clock = ManualClock()
        self.server = MemoryServer()
        self.data_plane = FakeDataPlane()
        self.opened = 0
        self.client = AdsClient(
            XdsSettings(endpoint=ENDPOINT, node=XdsNode(), on_demand=on_demand),
            data_plane=self.data_plane,
            clock=self.clock,
            connect=self.server.connect,
            opened=self.open,
            random=lambda: 0.0,
        )

    def open(self) -> None:
        self.opened += 1


@asynccontextmanager
async def running(*, on_demand: bool = False) -> AsyncIterator[Running]:
    one = Running(on_demand=on_demand)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(one.client.run())
        yield one
        task.cancel()
    one.data_plane.close()


async def test_a_first_sync_opens_the_gate_once() -> None:
    async with running() as one:
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, [named("a")], nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")
        assert one.opened == 0
        stream.answer(POLICY, nonce="2")
        stream.answer(POLICY, nonce="3")
        await one.server.until(lambda: stream.nonces() == ["1", "2", "3"], "ACKs")
        assert one.opened == 1


async def test_the_next_answer_is_read_when_the_last_one_is_acknowledged() -> None:
    async with running() as one:
        stream = await one.server.stream(1)
        stream.takes_messages.clear()
        stream.answer(ADDRESS, [named("a")], nonce="1")
        stream.answer(ADDRESS, [named("b")], nonce="2")
        await one.clock.settle()
        assert [name for _, name in one.data_plane.resources] == ["a"]
        stream.takes_messages.set()
        await one.server.until(lambda: stream.nonces() == ["1", "2"], "both ACKs")


async def test_streams_come_again_after_the_waits_of_4_7_and_every_end_is_counted() -> None:
    async with running() as one:
        one.server.trouble = [EndpointUnreachable("refused")] * 2
        await one.clock.settle()
        assert len(one.server.streams) == 1
        await one.clock.advance(0.019)
        assert len(one.server.streams) == 1
        await one.clock.advance(0.002)
        assert len(one.server.streams) == 2
        await one.clock.advance(0.041)
        stream = await one.server.stream(3)
        stream.answer(ADDRESS, nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")
        stream.end(StreamEnded("UNAVAILABLE", "transport is closing"))
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.advance(0.011)
        stream = await one.server.stream(4)
        stream.answer(ADDRESS, nonce="2")
        stream.end()
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.advance(0.011)
        stream = await one.server.stream(5)
        stream.answer(ADDRESS, nonce="3")
        stream.end(StreamEnded("ABORTED", ""))
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.settle()
        ends = ["ConnectionError", "ConnectionError", "Reconnect", "Complete", "Error"]
        assert one.data_plane.xds_ends == ends


async def test_a_new_stream_is_told_what_is_held() -> None:
    async with running() as one:
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, [named("a", "v1"), named("b", "v1")], nonce="1")
        stream.answer(ADDRESS, [named("a", "v2")], nonce="2", removed=["b"])
        await one.server.until(lambda: stream.nonces() == ["1", "2"], "ACKs")
        stream.end(StreamLost("reset"))
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.advance(0.011)
        again = await one.server.stream(2)
        assert again.said[0].initial_versions == (("a", "v2"),)


async def test_a_refused_first_request_is_made_smaller(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as one:
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, [named("a", "v1"), named("b", "v1")], nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")
        stream.end(StreamLost("reset"))
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.advance(0.011)
        again = await one.server.stream(2)
        assert again.said[0].initial_versions
        size = len(again.said[0].encode())
        text = f"grpc: received message larger than max ({size} vs. {size - 1})"
        again.end(StreamEnded("RESOURCE_EXHAUSTED", text))
        await one.server.until(lambda: again.closed, "the end")
        await one.clock.advance(1)
        whole = await one.server.stream(3)
        assert whole.said[0].initial_versions == ()
        whole.answer(ADDRESS, [named("a", "v1")], nonce="2")
        await one.server.until(lambda: whole.nonces() == ["2"], "an ACK")
        assert [name for _, name in one.data_plane.resources] == ["a"]


async def test_a_large_answer_is_read_and_applied_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "INLINE", 1000)
    threads: list[str] = []

    class Watched(FakeDataPlane):
        def read_delta(self, message: bytes) -> DeltaResponse:
            threads.append(threading.current_thread().name)
            return super().read_delta(message)

        def apply_delta(
            self, response: DeltaResponse, also_removed: Sequence[str] = ()
        ) -> Sequence[FakeRejection]:
            threads.append(threading.current_thread().name)
            return super().apply_delta(response, also_removed)

    monkeypatch.setattr("tests.unit.xds.test_client.FakeDataPlane", Watched)
    async with running() as one:
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, [named("a")], nonce="1")
        stream.answer(ADDRESS, [named(f"n{i}") for i in range(100)], nonce="2")
        await one.server.until(lambda: stream.nonces() == ["1", "2"], "ACKs")
    assert threads == ["MainThread", "MainThread", "xds", "xds"]


async def test_a_first_request_of_many_names_is_made_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "INLINE_NAMES", 1)
    threads: list[str] = []
    perform = First.perform

    def watch(self: First) -> Begun:
        threads.append(threading.current_thread().name)
        return perform(self)

    monkeypatch.setattr(First, "perform", watch)
    async with running() as one:
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, [named("a", "1"), named("b", "2")], nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")
        stream.end(StreamLost("reset"))
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.advance(0.011)
        again = await one.server.stream(2)
        assert again.said[0].initial_versions == (("a", "1"), ("b", "2"))
    assert threads == ["MainThread", "MainThread", "xds", "MainThread"]


async def test_a_wait_ends_in_time_without_a_stream_too() -> None:
    async with running(on_demand=True) as one:
        one.server.trouble = [EndpointUnreachable("refused")] * 1000
        await one.clock.settle()
        one.client.want("/10.0.0.1")
        await one.clock.advance(PATIENCE - 0.1)
        assert one.data_plane.absent == []
        await one.clock.advance(0.2)
        assert one.data_plane.absent == ["/10.0.0.1"]


async def test_a_question_waits_until_the_first_requests_are_sent() -> None:
    async with running(on_demand=True) as one:
        await one.server.until(lambda: one.server.streams, "an attempt")
        one.server.streams[0].takes_messages.clear()
        await one.clock.settle()
        one.client.want("late")
        await one.clock.settle()
        one.server.streams[0].takes_messages.set()
        stream = await one.server.stream(1)
        await one.server.until(lambda: len(stream.said) == 3, "the question")
        assert [request.subscribe for request in stream.said] == [("*",), (), ("late",)]


async def test_a_question_that_cannot_be_sent_ends_the_stream_for_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ztunnel")
    async with running(on_demand=True) as one:
        stream = await one.server.stream(1)
        stream.answer(POLICY, nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")

        async def no() -> None:
            raise StreamLost("a message could not be sent within 30 s")

        monkeypatch.setattr(stream, "flush", no)
        one.client.want("name")
        await one.server.until(lambda: stream.closed, "the end")
        await one.clock.advance(0.011)
        again = await one.server.stream(2)
        assert ("name", "") in again.said[0].initial_versions
        assert one.data_plane.xds_ends == ["Reconnect"]
    ended = next(r for r in caplog.records if r.message == "XDS stream ended")
    assert ended.__dict__["fields"]["error"] == "a message could not be sent within 30 s"


async def test_many_refusals_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as one:
        one.data_plane.rejections = [
            FakeRejection(type_url=ADDRESS, name=f"n{i}", reason="no") for i in range(1000)
        ]
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "a NACK")
    lines = [r for r in caplog.records if "resource" in r.message or "and more" in r.message]
    assert len(lines) == module.MAX_LINES + 1
    assert lines[-1].__dict__["fields"]["more"] == 1000 - module.MAX_LINES


async def test_a_message_is_not_kept_while_the_next_one_is_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100,000 resources are 30 MiB, which an idle stream must not hold."""
    watched: list[weakref.ref[object]] = []
    async with running() as one:
        stream = await one.server.stream(1)
        read = FakeDataPlane.read_delta

        def watch(self: FakeDataPlane, message: bytes) -> DeltaResponse:
            response = read(self, message)
            watched.append(weakref.ref(response))
            return response

        monkeypatch.setattr(FakeDataPlane, "read_delta", watch)
        stream.answer(ADDRESS, [named("a")], nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")
        await one.clock.settle()
        gc.collect()
        assert [each() for each in watched] == [None]


@pytest.mark.parametrize("told", ["an answer", "a question", "an end"])
async def test_a_stopped_data_plane_ends_the_client_whoever_is_told_of_it(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    one = Running(on_demand=True)

    def stopped(*_: object) -> None:
        raise DataPlaneClosed("stopped")

    for method in ("read_delta", "not_there", "count_xds_end"):
        monkeypatch.setattr(one.data_plane, method, stopped)
    task = asyncio.ensure_future(one.client.run())
    stream = await one.server.stream(1)
    match told:
        case "an answer":
            stream.answer(POLICY, nonce="1")
        case "a question":
            one.client.want("/10.0.0.1")
            await one.clock.advance(PATIENCE + 0.1)
        case _:
            stream.end()
    async with asyncio.timeout(5):
        await task
    one.data_plane.close()
