"""The data plane's voice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ztunnel.dataplane.events import events
from ztunnel.testing import FakeDataPlane, FakeEvent

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def data_plane() -> Iterator[FakeDataPlane]:
    fake = FakeDataPlane()
    yield fake
    fake.close()


@pytest.mark.asyncio
async def test_events_come_in_order_and_each_once(data_plane: FakeDataPlane) -> None:
    told = [FakeEvent(kind=f"k{n}") for n in range(5)]
    data_plane.say(*told[:2])
    heard = []
    async with asyncio.timeout(5):
        async for event in events(data_plane):
            heard.append(event)
            if len(heard) == 2:
                data_plane.say(*told[2:])
            if len(heard) == 5:
                break
    assert heard == told


@pytest.mark.asyncio
async def test_a_listener_that_ends_leaves_no_reader_behind(data_plane: FakeDataPlane) -> None:
    listener = events(data_plane)
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not asyncio.get_running_loop().remove_reader(data_plane.event_fd)
