"""How a stream to a control plane gathers small messages, over real TLS: shut while they come, open for whoever asks.

What is taken and acknowledged stands in `test_xds_client.py`; the door alone in `tests/unit/wire/test_gathering.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.ads_client import NODE, endpoint
from ztunnel.endpoint import TokenText
from ztunnel.testing.istiod import ADDRESS, FakeIstiod, mesh
from ztunnel.wire import gathering
from ztunnel.wire.discovery import DELTA_RESOURCES, DeltaRequest, WireResponse
from ztunnel.wire.duplex import Duplex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio

DEADLINE = 10.0
# A door that nobody opens stays shut for longer than a test takes.
MOMENT = 60.0


class Crowded:
    """A stream on which two messages have come, one right behind the other, and a third is waited for."""

    def __init__(self, istiod: FakeIstiod, stream: Duplex) -> None:
        self.istiod, self.stream = istiod, stream
        self.waiting: asyncio.Task[bytes | None]

    @property
    def shut(self) -> bool:
        connected = self.stream._opened.door._socket
        return connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > 1

    async def hear(self, number: int) -> None:
        """The server says something, and it is taken."""
        self.istiod.put(mesh.workload(f"pod-{number}", ip=f"10.1.0.{number}"))
        async with asyncio.timeout(DEADLINE):
            message = await self.stream.receive()
        assert message is not None
        self.stream.post(answer(message))


def answer(message: bytes) -> bytes:
    response = WireResponse.decode(message)
    return DeltaRequest(type_url=ADDRESS, nonce=response.nonce).encode()


@asynccontextmanager
async def crowded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowded]:
    monkeypatch.setattr(gathering, "MOMENT", MOMENT)
    async with FakeIstiod() as istiod:
        to = dataclasses.replace(endpoint(istiod), token=TokenText(istiod.token))
        async with Duplex(to, DELTA_RESOURCES, purpose="XDS") as stream:
            await stream.send(DeltaRequest(type_url=ADDRESS, node=NODE).encode())
            first = await stream.receive()
            assert first is not None
            await stream.send(answer(first))
            one = Crowded(istiod, stream)
            await one.hear(1)
            one.waiting = asyncio.ensure_future(stream.receive())
            async with asyncio.timeout(DEADLINE):
                await istiod.answered()
            assert one.shut
            yield one
            one.waiting.cancel()
            await asyncio.gather(one.waiting, return_exceptions=True)


async def test_what_comes_right_behind_waits_and_a_question_lets_it_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with crowded(monkeypatch) as one:
        one.istiod.put(mesh.workload("late", ip="10.1.0.9"))
        # The server's side of it is done, and nobody has told us.
        await one.istiod.observed.wait(lambda: len(said(one)) == 3, "a third response", DEADLINE)
        assert not one.waiting.done()
        await one.stream.send(DeltaRequest(type_url=ADDRESS, subscribe=["x"]).encode())
        assert not one.shut
        async with asyncio.timeout(DEADLINE):
            message = await one.waiting
        assert message is not None
        assert [each.name for each in WireResponse.decode(message).resources] == [said(one)[2]]


async def test_the_end_of_a_stream_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as one:
        one.istiod.port.abort()
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait([one.waiting])
        assert one.waiting.exception() is not None


def said(one: Crowded) -> list[str]:
    """The name of each response's first resource."""
    (stream,) = one.istiod.observed.live()
    return [each.versions[0][0] if each.versions else "" for each in stream.told(ADDRESS)]
