"""Plain TCP in, mutual TLS out: lets a tool without a client certificate speak to our 15008."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Coroutine

    Address = tuple[str, int]

PIECE = 64 * 1024


@asynccontextmanager
async def originate_tls(here: str, target: Address, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Listen on a port; each connection gets one of its own to `target`, inside TLS."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            far, far_writer = await asyncio.open_connection(*target, ssl=context)
            try:
                await _first_of(_copy(near, far_writer), _copy(far, near_writer))
            finally:
                far_writer.transport.abort()
        except OSError:
            pass  # either end may go as it likes: the tool at the near end judges that
        finally:
            near_writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, here, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(*copies: Coroutine[None, None, None]) -> None:
    """Until one direction has ended: TLS has no half-close here, and HTTP/2 needs none."""
    running = [asyncio.ensure_future(copy) for copy in copies]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in running:
            copy.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
