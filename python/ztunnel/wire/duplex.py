"""One stream of messages to a server of the control plane, both ways, on a connection of its own.

Bytes in, bytes out, each wait with its deadline, and every end as one of three errors. What the messages mean is for
`xds` to say. Counterpart for calls with one answer: `channel.py`.

Works in passes: what has come is taken message by message without a wait, and what is said meanwhile goes out in one piece
before the next wait. A small message costs less than the way up from the kernel and back.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from grpclib.client import StreamStreamMethod
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.utils import Wrapper
from h2.exceptions import H2Error

from ztunnel.errors import EndpointError, EndpointUnreachable, StreamEnded, StreamLost
from ztunnel.wire.connection import Connection, metadata_of, reason_of, untrusted
from ztunnel.wire.gathering import Gathering
from ztunnel.wire.inbox import Inbox

if TYPE_CHECKING:
    from types import TracebackType

    from grpclib.client import Stream

    from ztunnel.endpoint import Endpoint

# spec/control.md §4.2
MAX_MESSAGE = 200 * 1024 * 1024
# Of a large message, what has to come within `STALL`.
PIECE = 256 * 1024
# Messages taken without a wait, and as many answers in one piece: a few milliseconds of the event loop.
PASS = 32
# A large first answer takes istiod seconds to make, and longer while many proxies ask (it pushes to 100 at a time).
FIRST_ANSWER = 120.0
# Between two pieces of one message: whoever pings and does not deliver is not alive.
STALL = 60.0
# For a peer that opens no window.
SENDING = 30.0
# What the library raises of a stream that is over; the last one where it has taken a lost connection apart already.
LOST = (GRPCError, StreamTerminatedError, ProtocolError, H2Error, OSError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Open:
    """A stream that was asked for."""

    call: Stream[bytes, bytes]
    inbox: Inbox
    door: Gathering


class Duplex:
    """`async with Duplex(endpoint, METHOD, purpose="XDS") as stream:` connects; leaving it ends the connection."""

    def __init__(self, endpoint: Endpoint, method: str, *, purpose: str) -> None:
        """`purpose` begins the names of the variables that say where and whom to believe: `XDS`."""
        self._endpoint = endpoint
        self._method = method
        self._purpose = purpose
        self._connection: Connection | None = None
        self._open: _Open | None = None
        self._taken = 0
        """Messages of this pass so far."""
        self._posted: list[bytes] = []
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Reads roots and token, connects, sends the request's head.

        `EndpointUnreachable` for the way there, `EndpointError` for what is wrong on our side.
        """
        metadata = metadata_of(self._endpoint)
        self._connection = Connection(self._endpoint)
        method = StreamStreamMethod(self._connection, self._method, bytes, bytes)
        call = method.open(metadata=metadata)
        await call.__aenter__()
        call._wrapper = _Waking()
        try:
            async with asyncio.timeout(SENDING):
                await call.send_request()
            # Before anything comes: the event loop has not turned since the request went out.
            self._open = _open(call, self._endpoint)
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
        if self._open is not None:
            self._open.door.open()

    async def established(self) -> None:
        """Waits for the head of the answer, which istiod sends with its first message."""
        try:
            async with asyncio.timeout(FIRST_ANSWER):
                await self._opened.call.recv_initial_metadata()
        except TimeoutError:
            raise StreamLost(f"no answer within {FIRST_ANSWER:g} s") from None
        except LOST as error:
            raise self._end(error) from None

    def post(self, message: bytes) -> None:
        """Sends one message together with others, before `receive` waits or `flush` ends."""
        self._posted.append(b"\0" + len(message).to_bytes(4, "big") + message)

    async def send(self, message: bytes) -> None:
        """Sends one message after those that others are sending."""
        self.post(message)
        await self.flush()

    async def flush(self) -> None:
        """Sends what was posted, without waiting for the end of the pass."""
        if self._posted:
            # Whoever does not wait for it may be asking, and in a hurry for the answer.
            self._opened.door.open()
        await self._flush()

    async def _flush(self) -> None:
        call = self._opened.call
        try:
            async with asyncio.timeout(SENDING), self._sending:
                # Whoever had the lock before may have sent it.
                posted, self._posted = self._posted, []
                if posted:
                    with call._wrapper:  # wakes us when the connection is lost
                        await call._stream.send_data(b"".join(posted))
        except TimeoutError:
            raise StreamLost(f"a message could not be sent within {SENDING:g} s") from None
        except LOST as error:
            raise self._end(error) from None

    async def receive(self) -> bytes | None:
        """The next message, waiting as long as there is none; None when the server has ended the stream well."""
        call, inbox = self._opened.call, self._opened.inbox
        if inbox.ready and self._taken < PASS:
            self._taken += 1
            return inbox.take()
        await self._breathe()
        try:
            with call._wrapper:
                await self._fill(inbox, self._opened.door)
        except LOST as error:
            raise self._end(error) from None
        if inbox.ready:
            self._taken = 1
            return inbox.take()
        if inbox.torn:
            raise self._end(StreamLost("the stream ended within a message"))
        if self._said() is not None or not (call._stream.trailers or call._trailers_only):
            raise self._end(StreamLost("the stream ended without a status"))
        return None

    async def _breathe(self) -> None:
        """The end of a pass."""
        if self._posted:
            await self._flush()
        if self._taken >= PASS:
            # There may be more, but others want the event loop too.
            await asyncio.sleep(0)

    async def _fill(self, inbox: Inbox, door: Gathering) -> None:
        """Waits until a message is there, or nothing more will come."""
        if inbox.idle:
            door.shut()
        while not inbox.ready and not inbox.ended:
            if inbox.torn:
                await self._continued(inbox)
            else:
                await inbox.more()
            door.came(inbox.ready > 1)

    async def _continued(self, inbox: Inbox) -> None:
        """A good part of a message that has begun, or all of it."""
        # Nothing is known to be missing of one whose length has not come: any piece of it will do.
        goal = max(0, inbox.missing - PIECE) if inbox.missing else MAX_MESSAGE
        try:
            async with asyncio.timeout(STALL):
                await inbox.more()
                # With the last of it may come the first of the next one, of which more would be missing.
                while inbox.missing > goal and not inbox.ready and not inbox.ended:
                    await inbox.more()
        except TimeoutError:
            raise StreamLost(f"a message stopped for {STALL:g} s before its end") from None

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise RuntimeError("not entered yet")
        return self._open

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
            self._opened.call._maybe_raise()
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


class _Waking(Wrapper):
    """Wakes whoever waits for a stream, by a cancellation, when that is over: once, and for its first reason.

    The library's own cancels again for each further one, such as a GOAWAY behind a RST_STREAM, and whoever takes back one
    cancellation is left with another that nobody meant.
    """

    def cancel(self, error: Exception) -> None:
        """It is over."""
        if self._error is None:
            super().cancel(error)


def _open(call: Stream[bytes, bytes], server: Endpoint) -> _Open:
    """Puts an inbox and a door to a call that has just begun.

    The library's own buffer is not made for many messages, and takes any length that a peer names.
    """
    stream = call._stream
    if stream.id is None:
        raise RuntimeError("a call that was not sent")
    acknowledge = functools.partial(stream.connection.ack, stream.id)
    stream.buffer = inbox = Inbox(acknowledge, most=MAX_MESSAGE, server=server)
    connected = stream._transport.get_extra_info("socket")
    return _Open(call, inbox, Gathering(connected, asyncio.get_running_loop()))


def _take_back_cancellation(error: Exception) -> None:
    """The library wakes whoever waits by cancelling its task, and then raises something else.

    Left as it is, task groups and timeouts would take that task for one that somebody wants to end.
    """
    task = asyncio.current_task()
    if task is None or not isinstance(error.__context__, asyncio.CancelledError):
        return
    if task.cancelling() and task.uncancel() > 0:
        raise asyncio.CancelledError  # somebody does
