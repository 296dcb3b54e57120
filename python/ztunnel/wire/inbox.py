"""gRPC messages put together from the pieces that a stream brings, many from one piece or one from many.

Takes the place of the library's own buffer of a stream, which wakes a task and opens windows for each piece. Knows no
socket and no deadline; `duplex.py` waits with both. Windows open when somebody takes what came, and not before: a message
of any size is in memory once, and beside it no more than a window.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from typing import TYPE_CHECKING

from grpclib.protocol import Buffer

from ztunnel.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Callable

# gRPC over HTTP/2: one byte for compression, four for the length.
PREFIX = 5


class Inbox(Buffer):
    """What came on one stream and nobody has taken yet."""

    def __init__(self, acknowledge: Callable[[int], None], *, most: int, server: object) -> None:
        """`acknowledge` opens the windows by so many bytes; `server` is who is named when it sends more than `most`."""
        super().__init__(acknowledge)
        self._acknowledge = acknowledge
        self._most = most
        self._server = server
        self._pieces: list[bytes] = []
        self._owed = 0
        """What the pieces cost of the windows: with padding, so not their length."""
        self._messages: deque[bytes] = deque()
        self._head = b""
        self._body: io.BytesIO | None = None
        self._missing = 0
        self._ended = False
        self._trouble: EndpointError | None = None
        self._waiter: asyncio.Future[None] | None = None

    # The library's side

    def add(self, data: bytes, ack_size: int) -> None:
        """A piece came; `ack_size` is what it costs of the windows."""
        self._pieces.append(data)
        self._owed += ack_size
        self._wake()

    def eof(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake()

    async def read(self, size: int) -> bytes:
        """The library's way to take bytes. Here messages are taken whole, and who waited for its own pieces would for ever."""
        raise io.UnsupportedOperation("an inbox gives whole messages, not bytes")

    def unacked_size(self) -> int:
        """What the windows are still short of, for a stream that is given up."""
        owed, self._owed = self._owed, 0
        return owed

    # Ours

    @property
    def ready(self) -> int:
        """How many messages `take` has."""
        return len(self._messages)

    @property
    def missing(self) -> int:
        """Bytes that the message that has begun still lacks; 0 if none has."""
        return self._missing

    @property
    def idle(self) -> bool:
        """Whether nothing is here, begun or announced."""
        return not (self._messages or self._pieces or self._head or self._body or self._ended)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and nothing is left."""
        return self._ended and not self._pieces and not self._messages and self._trouble is None

    @property
    def torn(self) -> bool:
        """Whether a message has begun that is not whole."""
        return bool(self._head) or self._body is not None

    def take(self) -> bytes:
        """The oldest message that is whole."""
        return self._messages.popleft()

    async def more(self) -> None:
        """Waits for a piece or the end, and reads all that came meanwhile.

        `EndpointError` for a message that is not to be taken; those before it come first.
        """
        if not self._pieces and not self._ended and self._trouble is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._read()
        if self._trouble is not None and not self._messages:
            raise self._trouble

    def _read(self) -> None:
        pieces, self._pieces = self._pieces, []
        try:
            for piece in pieces if self._trouble is None else ():
                self._read_piece(piece)
        except EndpointError as error:
            self._trouble = error
        # Once for all of them: each time may be a frame of its own.
        if owed := self.unacked_size():
            self._acknowledge(owed)

    def _read_piece(self, piece: bytes) -> None:
        at, size = 0, len(piece)
        while at < size:
            if self._body is not None:
                at += self._fill(self._body, piece, at)
                continue
            wanted = PREFIX - len(self._head)
            self._head += piece[at : at + wanted]
            at += wanted
            if at > size:
                return
            length = self._length()
            self._head = b""
            if size - at >= length:
                # Nearly every message: whole in one piece.
                self._messages.append(piece[at : at + length])
                at += length
            else:
                self._body, self._missing = io.BytesIO(), length

    def _fill(self, body: io.BytesIO, piece: bytes, at: int) -> int:
        """Adds what there is to the message that has begun; gives how much of the piece that was."""
        part = memoryview(piece)[at : at + self._missing]
        body.write(part)
        self._missing -= len(part)
        if not self._missing:
            # Its value is what was written and no copy of it, which two buffers of this size would be.
            self._messages.append(body.getvalue())
            self._body = None
        return len(part)

    def _length(self) -> int:
        if self._head[0]:
            raise EndpointError(f"{self._server} compresses, which nobody asked for")
        length = int.from_bytes(self._head[1:], "big")
        if length > self._most:
            most = self._most // 1024 // 1024
            raise EndpointError(
                f"{self._server} sends a message of more than {most} MiB: {length} bytes"
            )
        return length

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
