"""Whether a client that waits for a long answer is still there.

A client that closes its sending side may still read (spec/control.md §10), and looks like one that has closed all of it: in
both cases its last segment is a FIN. The difference shows when something is sent, for nobody answers it but with a RST. An
interim response is something that may be sent at any time (RFC 9110 §15.2), and says nothing.
Counterpart: `connection.py`, whose answers these are.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Answers that come sooner, nearly all, need no interim response before them.
PATIENCE = 1.0
# Between looks for what came back: a RST takes a round trip of the loopback.
LOOK = 0.25
READ_BYTES = 16 * 1024
# <netinet/tcp.h>: the first byte of `tcp_info` is the state.
TCP_CLOSE = 7


class Watch:
    """One client, while it waits."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        received: Callable[[bytes], None],
        interim: Callable[[], Awaitable[bool]],
    ) -> None:
        """`received` takes what comes meanwhile; `interim` sends something, and says whether it may be sent."""
        self._reader = reader
        self._writer = writer
        self._received = received
        self._interim = interim

    async def until_gone(self) -> bool:
        """True when the client is gone; False if that cannot be known of this one any more."""
        try:
            data = await self._reader.read(READ_BYTES)
            self._received(data)
            if data:
                # It asks the next thing already: it is there, and reading on would hold without bound.
                return False
            await asyncio.sleep(PATIENCE)
            if not await self._interim():
                return False
            while not self._is_closed():  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(LOOK)
        except OSError:
            return True  # reset, whether it was being read or already let go
        return True

    def _is_closed(self) -> bool:
        # The loop does not look at a socket whose end it has read.
        one: socket.socket = self._writer.get_extra_info("socket")
        return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
