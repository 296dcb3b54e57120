"""A delta ADS client with nothing in it: a connection, a stream, and what the test says on it.

For tests of `ztunnel.testing.istiod` itself; the proxy's own client is `ztunnel.xds`.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from grpclib.client import UnaryUnaryMethod
from grpclib.const import Cardinality
from grpclib.exceptions import StreamTerminatedError

from ztunnel.endpoint import Endpoint, RootText
from ztunnel.wire.citadel import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from ztunnel.wire.connection import Connection
from ztunnel.wire.discovery import DELTA_RESOURCES, DeltaRequest, WireNode, WireResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ztunnel.testing.istiod import FakeIstiod

DEADLINE = 30.0
NODE = WireNode(
    id="ztunnel~10.0.0.1~ztunnel.istio-system~istio-system.svc.cluster.local",
    metadata=(("NAMESPACE", "istio-system"), ("NODE_NAME", "node-a")),
)


class AdsClient:
    """One open stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def ask(self, type_url: str, **more: Any) -> None:
        """A first request."""
        await self.say(DeltaRequest(type_url=type_url, node=NODE, **more))

    async def say(self, request: DeltaRequest) -> None:
        """Any request."""
        await self.stream.send_message(request.encode())

    async def hear(self) -> WireResponse:
        """The next response; `GRPCError` at the end, if the server says one."""
        return WireResponse.decode(await self.raw())

    async def raw(self) -> bytes:
        """The next response as it came; b"" at the end."""
        try:
            async with asyncio.timeout(DEADLINE):
                received = await self.stream.recv_message()
                if received is None:
                    # grpclib's own wants the client's side to be over before it looks.
                    if "grpc-status" not in dict(self.stream._stream.headers):
                        await self.stream._stream.recv_trailers()
                    self.stream._maybe_raise()
        except StreamTerminatedError:
            # A server resets a stream that it has ended with a status; the status came first and counts.
            self.stream._maybe_raise()
            raise
        return received or b""

    async def take(self, response: WireResponse) -> None:
        """ACK."""
        await self.say(DeltaRequest(type_url=response.type_url, nonce=response.nonce))

    async def refuse(self, response: WireResponse, why: str) -> None:
        """NACK."""
        await self.say(DeltaRequest(type_url=response.type_url, nonce=response.nonce, error=why))


def endpoint(istiod: FakeIstiod) -> Endpoint:
    """Where the server is, and whom to believe there."""
    return Endpoint(
        host=istiod.port.host,
        port=istiod.port.port,
        roots=RootText(istiod.certificates.bundle),
        cluster_id=istiod.cluster_id,
    )


@asynccontextmanager
async def connected(to: Endpoint) -> AsyncIterator[Connection]:
    """A connection, made at the first call on it."""
    connection = Connection(to)
    try:
        yield connection
    finally:
        await _close(connection)


@asynccontextmanager
async def streaming(istiod: FakeIstiod, token: str | None = None) -> AsyncIterator[AdsClient]:
    """A stream on a connection of its own; leaving drops it."""
    async with streaming_to(endpoint(istiod), token or istiod.token) as client:
        yield client


@asynccontextmanager
async def streaming_to(to: Endpoint, token: str) -> AsyncIterator[AdsClient]:
    """The same, to wherever the server is."""
    async with connected(to) as connection:
        metadata = [("authorization", f"Bearer {token}")]
        opened = connection.request(
            DELTA_RESOURCES, Cardinality.STREAM_STREAM, bytes, bytes, metadata=metadata
        )
        stream = await opened.__aenter__()
        try:
            async with asyncio.timeout(DEADLINE):
                await stream.send_request()
            yield AdsClient(stream)
        finally:
            with contextlib.suppress(Exception):
                await stream.cancel()


async def _close(connection: Connection) -> None:
    """At once: a loop that ends now waits for nobody's `close_notify`."""
    protocol = connection._protocol
    if protocol is not None and not protocol.connection.is_closing():
        protocol.connection._transport.abort()
    connection.close()
    # The transport's end is told in the next turns of the loop, TLS's first and TCP's after it.
    for _ in range(3):
        await asyncio.sleep(0)


async def certificate(istiod: FakeIstiod, request: CertificateRequest, token: str) -> list[str]:
    """A `cert_chain`; `GRPCError` if there is none."""
    async with connected(endpoint(istiod)) as connection:
        method = UnaryUnaryMethod(connection, CREATE_CERTIFICATE, bytes, bytes)
        raw = await method(
            request.encode(), timeout=DEADLINE, metadata=[("authorization", f"Bearer {token}")]
        )
    return list(CertificateResponse.decode(raw).cert_chain)
