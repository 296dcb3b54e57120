"""The end of a connection to a server of the control plane: what came before it counts. TLS in memory, no socket."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING

import pytest
from grpclib.client import Handler
from h2.config import H2Configuration

from tests.support.certs import Authority, client_context
from ztunnel.wire.connection import PINGS, READ, _Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Heard(_Protocol):
    """Counts bytes, and makes no frames of them."""

    def __init__(self) -> None:
        super().__init__(Handler(), PINGS.__for_client__(), H2Configuration())
        self.bytes = 0

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)


class Wire(asyncio.Transport):
    """The way to a server that answers while it is written to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._to_server, self._from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = context.wrap_bio(self._to_server, self._from_server, server_side=True)
        self._shaken = False
        self.client: sslproto.SSLProtocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._to_server.write(data)
        if not self._shaken:
            try:
                self._server.do_handshake()
                self._shaken = True
            except ssl.SSLWantReadError:
                pass
            asyncio.get_running_loop().call_soon(self.arrive)

    def say(self, data: bytes) -> None:
        """The server's side of the connection; it has not arrived yet."""
        self._server.write(data)

    def arrive(self) -> None:
        """Everything that the server has sent, at once."""
        data = self._from_server.read()
        if data:
            self.client.get_buffer(len(data))[: len(data)] = data
            self.client.buffer_updated(len(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nobody is there to be told."""


@pytest.mark.asyncio
async def test_all_that_came_before_the_end_is_heard(tmp_path: Path) -> None:
    context = Authority.new().leaf(dns=["x"]).server_context(tmp_path)
    wire, heard = Wire(context), Heard()
    loop = asyncio.get_running_loop()
    shaken = loop.create_future()
    wire.client = sslproto.SSLProtocol(loop, heard, client_context(), shaken, False, "x")
    wire.client.connection_made(wire)
    async with asyncio.timeout(10):
        await shaken
    # More than asyncio asks for when it arrives, and once more at the end.
    said = 3 * READ + 1
    wire.say(b"a" * said)
    wire.arrive()
    wire.client.eof_received()
    assert heard.bytes == said
    wire.client.connection_lost(None)
    await asyncio.sleep(0)
