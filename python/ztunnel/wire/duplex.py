"""One stream of messages to a server of the control plane, both ways, on a connection of its own.

Bytes in, bytes out, each wait with its deadline, and every end as one of three errors. What the messages mean is for
`xds` to say. Counterpart for calls with one answer: `channel.py`.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from typing import TYPE_CHECKING, Self

from grpclib.client import StreamStreamMethod
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from ztunnel.errors import EndpointError, EndpointUnreachable, StreamEnded, StreamLost
from ztunnel.wire.connection import Connection, metadata_of, reason_of, untrusted

if TYPE_CHECKING:
    from types import TracebackType

    from grpclib.client import Stream

    from ztunnel.endpoint import Endpoint

# spec/control.md §4.2
MAX_MESSAGE = 200 * 1024 * 1024
# A message is taken out of the library in pieces of this size, so that it is in memory once and not twice.
PIECE = 256 * 1024
# A large first answer takes istiod seconds to make, and longer while many proxies ask (it pushes to 100 at a time).
FIRST_ANSWER = 120.0
# Between two pieces of one message: whoever pings and does not deliver is not alive.
STALL = 60.0
# For a peer that opens no window.
SENDING = 30.0
# What the library raises of a stream that is over; the last one where it has taken a lost connection apart already.
LOST = (GRPCError, StreamTerminatedError, ProtocolError, H2Error, OSError, AttributeError)
# gRPC over HTTP/2: one byte for compression, four for the length.
PREFIX = 5


class Duplex:
    """`async with Duplex(endpoint, METHOD, purpose="XDS") as stream:` connects; leaving it ends the connection."""

    def __init__(self, endpoint: Endpoint, method: str, *, purpose: str) -> None:
        """`purpose` begins the names of the variables that say where and whom to believe: `XDS`."""
        self._endpoint = endpoint
        self._method = method
        self._purpose = purpose
        self._connection: Connection | None = None
        self._call: Stream[bytes, bytes] | None = None
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Reads roots and token, connects, sends the request's head.

        `EndpointUnreachable` for the way there, `EndpointError` for what is wrong on our side.
        """
        metadata = metadata_of(self._endpoint)
        self._connection = Connection(self._endpoint)
        method = StreamStreamMethod(self._connection, self._method, bytes, bytes)
        self._call = method.open(metadata=metadata)
        await self._call.__aenter__()
        try:
            async with asyncio.timeout(SENDING):
                await self._call.send_request()
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise self._unreachable(error) from None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Says nothing: the connection is the stream's own, and its end is the stream's."""
        self.close()

    def close(self) -> None:
        """Ends it."""
        if self._connection is not None:
            self._connection.close()

    async def established(self) -> None:
        """Waits for the head of the answer, which istiod sends with its first message."""
        try:
            async with asyncio.timeout(FIRST_ANSWER):
                await self._opened.recv_initial_metadata()
        except TimeoutError:
            raise StreamLost(f"no answer within {FIRST_ANSWER:g} s") from None
        except LOST as error:
            raise self._end(error) from None

    async def send(self, message: bytes) -> None:
        """Sends one message after those that others are sending."""
        try:
            async with asyncio.timeout(SENDING), self._sending:
                await self._opened.send_message(message)
        except TimeoutError:
            raise StreamLost(f"a message could not be sent within {SENDING:g} s") from None
        except LOST as error:
            raise self._end(error) from None

    async def receive(self) -> bytes | None:
        """The next message, waiting as long as there is none; None when the server has ended the stream well."""
        call = self._opened
        try:
            # The library's own `recv_message` takes any length that a peer names, and joins what it has kept.
            with call._wrapper:  # wakes us when the connection is lost
                head = await call._stream.recv_data(PREFIX)
                if head:
                    return await self._body(head)
        except AssertionError:
            # The library's word for a stream that ends within a message.
            raise self._end(StreamLost("the stream ended within a message")) from None
        except LOST as error:
            raise self._end(error) from None
        if self._said() is not None or not (call._stream.trailers or call._trailers_only):
            raise self._end(StreamLost("the stream ended without a status"))
        return None

    async def _body(self, head: bytes) -> bytes:
        if head[0]:
            raise EndpointError(f"{self._endpoint} compresses, which nobody asked for")
        length = int.from_bytes(head[1:], "big")
        if length > MAX_MESSAGE:
            most = MAX_MESSAGE // 1024 // 1024
            raise EndpointError(
                f"{self._endpoint} sends a message of more than {most} MiB: {length} bytes"
            )
        # Its value is what was written and no copy of it, which two buffers of this size would be.
        body = io.BytesIO()
        stream = self._opened._stream
        while (left := length - body.tell()) > 0:
            try:
                async with asyncio.timeout(STALL):
                    body.write(await stream.recv_data(min(left, PIECE)))
            except TimeoutError:
                raise StreamLost(f"a message stopped for {STALL:g} s before its end") from None
        return body.getvalue()

    @property
    def _opened(self) -> Stream[bytes, bytes]:
        if self._call is None:
            raise RuntimeError("not entered yet")
        return self._call

    def _end(self, error: Exception) -> EndpointError:
        """What an end of the stream was that began as `error`."""
        _take_back_cancellation(error)
        # What was said last counts, although the connection may be gone already.
        match self._said() or error:
            case GRPCError() as ended:
                return StreamEnded(ended.status.name, ended.message or "")
            case EndpointError() as known:
                return known
            case lost:
                return StreamLost(reason_of(lost))

    def _said(self) -> GRPCError | None:
        """The status that the server ended the stream with, if it is one of failure."""
        try:
            self._opened._maybe_raise()
        except GRPCError as ended:
            return ended
        return None

    def _unreachable(self, error: Exception) -> EndpointError:
        """What came before the stream."""
        match error:
            case EndpointError():
                return error
            case ssl.SSLCertVerificationError():
                named = self._purpose
                hint = f"check {named}_ROOT_CA, and {named}_ADDRESS or ALT_{named}_HOSTNAME"
                text = f"{self._endpoint} is not trusted; {hint}: {untrusted(error)}"
            case TimeoutError():
                text = (
                    f"no connection to {self._endpoint}: it takes no request within {SENDING:g} s"
                )
            case socket.gaierror():
                hint = "is the DNS server reachable, and the name right?"
                text = f"no connection to {self._endpoint}: {reason_of(error)}; {hint}"
            case _:
                text = f"no connection to {self._endpoint}: {reason_of(error)}"
        return EndpointUnreachable(text)


def _take_back_cancellation(error: Exception) -> None:
    """The library wakes whoever waits by cancelling its task, and then raises something else.

    Left as it is, task groups and timeouts would take that task for one that somebody wants to end.
    """
    task = asyncio.current_task()
    if task is None or not isinstance(error.__context__, asyncio.CancelledError):
        return
    if task.cancelling() and task.uncancel() > 0:
        raise asyncio.CancelledError  # somebody does
