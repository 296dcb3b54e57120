"""The data plane's voice as an asynchronous iterator.

Waits with `add_reader`, so an idle node does nothing at all here: no thread, no timer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ztunnel.dataplane.handle import DataPlane, Event


async def events(data_plane: DataPlane) -> AsyncIterator[Event]:
    """Yields events as they come, for ever; close the iterator to stop listening."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    descriptor = data_plane.event_fd

    def on_readable() -> None:
        # Level-triggered: without this the loop would spin until the batch is taken.
        loop.remove_reader(descriptor)
        readable.set()

    try:
        while True:
            loop.add_reader(descriptor, on_readable)
            await readable.wait()
            readable.clear()
            for event in data_plane.take_events():
                yield event
    finally:
        loop.remove_reader(descriptor)
