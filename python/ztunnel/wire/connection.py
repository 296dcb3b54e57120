"""One gRPC connection to a server of the control plane: TCP, TLS, HTTP/2, each with its deadline.

grpclib's channel with a socket of our own, since it offers no way to set options on its own one. Chosen over grpcio on the
job itself (bench/grpc_library): with an open stream it keeps 5 MiB and not 16; taking 100,000 workloads in one message it
peaks 35 MiB higher and not 114, and holds the event loop for 14 ms and not 113. It costs more CPU there, 0.22 s and not
0.13. And grpcio lets nobody set SO_MARK. Whoever imports this file pays for it, so import it late.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

from grpclib.client import Channel, Handler
from grpclib.config import Configuration
from grpclib.encoding.base import CodecBase
from grpclib.protocol import EventsProcessor, H2Protocol

from ztunnel.errors import EndpointUnreachable
from ztunnel.spelling import is_address
from ztunnel.tasks import detached
from ztunnel.wire.tls import client_context
from ztunnel.wire.token import read_token

if TYPE_CHECKING:
    from h2.events import Event as H2Event

    from ztunnel.endpoint import Endpoint

# spec/control.md §4.1. The handshake's is ours: there was none (reliability §8).
CONNECT = 5.0
HANDSHAKE = 5.0
KEEPALIVE = {socket.TCP_KEEPIDLE: 300, socket.TCP_KEEPINTVL: 75, socket.TCP_KEEPCNT: 9}
# How long a peer gets to say goodbye in TLS. asyncio's own 30 s would come on top of what a silent one got already.
GOODBYE = 1.0
# At a time, between which the event loop turns: four TLS records of the largest kind, or a hundred small messages.
READ = 64 * 1024
PING_INTERVAL, PING_TIMEOUT = 30.0, 10.0
PINGS = Configuration(
    # A silent peer is noticed after 40 s, while somebody waits for it. istiod ends the connection of those who ask more
    # often than every 15 s (istio.md A3.1).
    _keepalive_time=PING_INTERVAL,
    _keepalive_timeout=PING_TIMEOUT,
    # The library's defaults are two pings in all, five minutes apart, until we send something. A stream of the mesh has
    # nothing to send for hours.
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=PING_INTERVAL / 2,
)


class Raw(CodecBase):
    """Messages as the bytes that they are: encoding is the caller's."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """As it is."""
        del message_type
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        """As it is."""
        del message_type
        return data


class _Events(EventsProcessor):
    """Ignores what it does not know, as HTTP/2 wants it (RFC 9113 §4.1).

    The library's own raises, which ends the connection: a frame of an extension, from whatever stands between, would
    end every next one as well.
    """

    def process(self, event: H2Event) -> None:
        if type(event) in getattr(self, "processors", ()):
            super().process(event)


class _Protocol(H2Protocol, asyncio.BufferedProtocol):
    """The library's, fed from one buffer.

    For a protocol without one, asyncio asks the system for 256 KiB for each TLS record and gives them back, which costs
    more than a small message and, as other processors must be told of it, disturbs threads that carry traffic.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.processor = _Events(self.handler, self.connection)
        self._buffer = memoryview(bytearray(READ))
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to write what comes; is over when `buffer_updated` returns."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much was written."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        """Takes what came before the end: asyncio asks once more for one buffer of it, and forgets the rest."""
        with contextlib.suppress(ssl.SSLError):
            while self._tls and not self.connection.is_closing() and (rest := self._tls.read(READ)):
                self.data_received(rest)


class Connection(Channel):
    """Connects at the first call, and again at a call after the end of the connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Reads the roots; `EndpointError` if they cannot be used."""
        self._tls = client_context(endpoint)
        super().__init__(endpoint.host, endpoint.port, codec=Raw(), ssl=self._tls, config=PINGS)
        self._endpoint = endpoint

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        loop = asyncio.get_running_loop()
        connected = await _connect(self._endpoint)
        try:
            _, protocol = await loop.create_connection(
                self._protocol_factory,
                sock=connected,
                ssl=self._tls,
                server_hostname=self._endpoint.host,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=GOODBYE,
            )
        except BaseException:
            connected.close()
            raise
        return protocol


def metadata_of(endpoint: Endpoint) -> list[tuple[str, str]]:
    """What every request carries; reads the token as it is now, `EndpointError` if it cannot be sent."""
    metadata = [("clusterid", endpoint.cluster_id), *endpoint.headers]
    token = read_token(endpoint.token)
    return metadata if token is None else [("authorization", f"Bearer {token}"), *metadata]


def untrusted(error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the certificate that a server showed."""
    return str(getattr(error, "verify_message", None) or error.strerror)


def reason_of(error: Exception) -> str:
    """What went wrong, in the system's or the library's words."""
    if isinstance(error, OSError) and error.strerror:
        # asyncio's words for a refused connection name the address once more and not the reason.
        of_asyncio = error.strerror.startswith("Connect call failed") and error.errno
        return os.strerror(of_asyncio) if of_asyncio else error.strerror
    return str(error) or type(error).__name__


async def _connect(endpoint: Endpoint) -> socket.socket:
    """A connection to the first of the host's addresses that answers; `OSError` of the last one."""
    failure = OSError("its name has no address")
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(CONNECT) as whole:
            found = await _resolve(endpoint.host, endpoint.port)
            for left, (family, address) in zip(range(len(found), 0, -1), found, strict=True):
                # One that swallows everything must leave the others their time; the last one has all of the rest.
                until = whole.when() if left > 1 else None
                share = None if until is None else (until - now()) / left
                try:
                    async with asyncio.timeout(share):
                        return await _dial(family, address, endpoint.mark)
                except OSError as error:
                    failure = error
    except TimeoutError:
        raise EndpointUnreachable(f"no connection to {endpoint} within {CONNECT:g} s") from None
    raise failure


async def _resolve(host: str, port: int) -> list[tuple[int, Any]]:
    if is_address(host):
        # Asks nobody, so it needs no thread.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    else:
        ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await detached("resolve", ask)
    return [(family, address) for family, _, _, _, address in found]


async def _dial(family: int, address: Any, mark: int | None) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        _set_options(opened, mark)
        await asyncio.get_running_loop().sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened


def _set_options(opened: socket.socket, mark: int | None) -> None:
    opened.setblocking(False)
    if mark is not None:
        # Or our own capture rules would lead us to ourselves.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        opened.setsockopt(socket.IPPROTO_TCP, option, value)
