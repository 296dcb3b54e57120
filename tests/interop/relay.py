"""Plain TCP in, mutual TLS out: lets a tool without a client certificate speak to our 15008.

What the tool writes back to back is handed over in one piece. A proxy that answers 400 at once would
otherwise be through with a request before the next frame comes, and a case about that frame would be luck.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    Address = tuple[str, int]

PIECE = 1024 * 1024
# Silence that ends a piece; between two writes of one program there are microseconds.
PAUSE = 0.02


@asynccontextmanager
async def originate_tls(here: str, target: Address, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Listen on a port; each connection gets one of its own to `target`, inside TLS."""
    relays: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        relays[task] = near_writer
        try:
            far, far_writer = await asyncio.open_connection(*target, ssl=context)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(near, far_writer, pause=PAUSE))
                both.create_task(_copy(far, near_writer, pause=None))
        except* OSError:
            pass  # either end may go as it likes: the tool at the near end judges that
        finally:
            near_writer.close()
            del relays[task]

    async with await asyncio.start_server(serve, here, 0) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        ending = list(relays)
        for writer in relays.values():
            writer.transport.abort()
        await asyncio.gather(*ending)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pause: float | None
) -> None:
    """Until its end, which ends the other direction too: neither TLS here nor HTTP/2 has half-close."""
    try:
        while data := await reader.read(PIECE):
            if pause is not None:
                data += await _rest(reader, pause)
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def _rest(reader: asyncio.StreamReader, pause: float) -> bytes:
    data = b""
    try:
        while more := await asyncio.wait_for(reader.read(PIECE), pause):
            data += more
    except TimeoutError:
        pass
    return data
