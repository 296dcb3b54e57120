"""The one TLS port of a fake istiod: listens, or refuses, or hangs, or freezes what is open; knows no messages.

grpclib's server with a hold on its connections, which it does not offer by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpclib.server import Server
from h2.events import PingReceived

from ztunnel.wire.connection import Raw

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from grpclib.const import Handler
    from grpclib.protocol import H2Protocol

# RFC 9113 §6.8: type 7 and the largest stream there can be, as grpc-go's first of two has it.
_GOAWAY = struct.Struct(">HBBBIII")
_NO_ERROR, _ENHANCE_YOUR_CALM = 0, 11
# Pings that come too early before the connection ends: grpc-go's `maxPingStrikes`.
MAX_STRIKES = 2
# How long an end of connections may take that are told to end.
CLOSING = 5.0


class Service:
    """Methods by path, as grpclib wants them."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        self._methods = dict(methods)

    def __mapping__(self) -> dict[str, Handler]:
        return self._methods


class Port:
    """Opens, closes and torments connections."""

    def __init__(self, service: Service, *, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.context = server_context()
        self.max_age: float | None = None
        """Seconds after which a connection is told to go away; istiod's chart has 30 minutes."""
        self.grace = 10.0
        """Seconds from that word to the end of what is left."""
        self.ping_interval = 15.0
        """Seconds: who pings more often is told to go at once. Half of istiod's keepalive time (istio.md A3.1)."""
        self.thawed = asyncio.Event()
        """Cleared, nothing is read from any connection."""
        self.thawed.set()
        self._service = service
        self._server: _Server | None = None
        self._silent: socket.socket | None = None

    async def open(self) -> None:
        """Listen and serve, on the same port as before."""
        await self.refuse()
        listening = socket.create_server((self.host, self.port))
        self.port = listening.getsockname()[1]
        self._server = _Server([self._service], codec=Raw())
        self._server.owner = self
        await self._server.start(sock=listening, ssl=self.context)

    async def refuse(self) -> None:
        """Connections are refused from now on, and those that are open end at once."""
        if self._silent is not None:
            self._silent.close()
            self._silent = None
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            server.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING):
                    await server.wait_closed()

    async def hang(self) -> None:
        """Connections are taken by the kernel, and nobody ever shakes hands."""
        await self.refuse()
        self._silent = socket.create_server((self.host, self.port))

    def freeze(self) -> None:
        """Every connection, also a new one after its handshake: open, and silent, as if the process were stopped."""
        self.thawed.clear()
        for transport in self.transports():
            transport.pause_reading()

    def thaw(self) -> None:
        """Go on."""
        self.thawed.set()
        for transport in self.transports():
            transport.resume_reading()

    def abort(self) -> None:
        """Every connection ends at once, without a word."""
        if self._server is not None:
            self._server.abort()

    def go_away(self) -> None:
        """Every connection is told to take no new streams, and ends after `grace`."""
        for transport in self.transports():
            retire(transport, self.grace)

    def transports(self) -> list[asyncio.Transport]:
        """Of the connections that are open."""
        return self._server.transports() if self._server is not None else []


def retire(transport: asyncio.Transport, grace: float) -> None:
    """GOAWAY, and the end after `grace` seconds.

    Past h2, which would take the connection for closed and refuse to end its streams properly.
    """
    if not transport.is_closing():
        transport.write(_go_away(_NO_ERROR))
        asyncio.get_running_loop().call_later(grace, transport.close)


def _go_away(code: int, why: bytes = b"") -> bytes:
    return _GOAWAY.pack(0, 8 + len(why), 7, 0, 0, 2**31 - 1, code) + why


def server_context() -> ssl.SSLContext:
    """TLS as istiod has it: 1.2 at least, HTTP/2, no client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context


def show_chain(context: ssl.SSLContext, chain: str, key: bytes) -> None:
    """New handshakes have this certificate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "server.pem")
        path.write_bytes(chain.encode() + key)
        context.load_cert_chain(path)


class _Server(Server):
    """Hands out its connections, and looks after new ones."""

    owner: Port

    def __init__(self, services: Collection[Service], **options: Any) -> None:
        super().__init__(services, **options)
        self._protocols: list[H2Protocol] = []

    def transports(self) -> list[asyncio.Transport]:
        # One that has not shaken hands yet has no connection.
        found = (getattr(protocol, "connection", None) for protocol in self._protocols)
        open_ones = (each._transport for each in found if each and not each.is_closing())
        return [transport for transport in open_ones if isinstance(transport, asyncio.Transport)]

    def abort(self) -> None:
        for transport in self.transports():
            transport.abort()
        self._protocols.clear()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        made = protocol.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            made(transport)
            watch = _Pings(transport, self.owner.ping_interval)
            protocol.processor.processors[PingReceived] = watch.received
            self._begun(transport)

        protocol.connection_made = connection_made  # type: ignore[method-assign]
        self._protocols = [p for p in self._protocols if not _is_over(p)]
        self._protocols.append(protocol)
        return protocol

    def _begun(self, transport: Any) -> None:
        if not self.owner.thawed.is_set():
            transport.pause_reading()
        if self.owner.max_age is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.owner.max_age, retire, transport, self.owner.grace)


class _Pings:
    """How often one client pings."""

    def __init__(self, transport: Any, interval: float) -> None:
        self._transport = transport
        self._interval = interval
        self._last: float | None = None
        self._strikes = 0

    def received(self, event: PingReceived) -> None:
        del event  # h2 has answered it
        now = time.monotonic()
        if self._last is not None and now - self._last < self._interval:
            self._strikes += 1
        self._last = now
        if self._strikes > MAX_STRIKES and not self._transport.is_closing():
            self._transport.write(_go_away(_ENHANCE_YOUR_CALM, b"too_many_pings"))
            self._transport.close()


def _is_over(protocol: H2Protocol) -> bool:
    connection = getattr(protocol, "connection", None)
    return connection is not None and connection.is_closing()
