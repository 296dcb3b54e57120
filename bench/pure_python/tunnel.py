"""One HTTP/2 connection over TLS, either role.

`Tunnel` is the peer's side, `flow.py` an application's; a stream joins the two. Both are asyncio
protocols, so bytes go from socket to socket without a task or a queue between.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from bench.pure_python.flow import HIGH_WATER
from bench.pure_python.identity import IdentityError, peer_names

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from h2.events import Event
    from hyperframe.frame import Frame

    from bench.pure_python.flow import Flow

    Headers = Sequence[tuple[str, str]]

log = logging.getLogger("pure_python")

# The windows of the product (spec/dataplane.md §4), so that the two are compared on equal terms. Its
# frames of 1 MiB are not: h2 glues a frame together from what the socket gives, and with 64 KiB it takes
# two thirds of the time it takes with 1 MiB (bench/README.md).
STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
FRAME_SIZE = 64 * 1024
MAX_STREAMS = 200
NO_MORE_STREAMS = 2**31 - 1


class Connection(h2.connection.H2Connection):
    """h2, except that GOAWAY does not end the streams that are running.

    h2 closes its whole state machine on a GOAWAY in either direction; RFC 9113 §6.8 lets streams
    up to the announced one finish.
    """

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = h2.events.ConnectionTerminated()
        event.last_stream_id = frame.last_stream_id
        event.error_code = frame.error_code
        event.additional_data = frame.additional_data or None
        return [], [event]


class Tunnel(asyncio.Protocol):
    """The TLS side: frames to and from one peer, either role.

    `StreamClosedError` is expected wherever we act on a stream: the engine may already have read the
    peer's RST_STREAM while its event still waits behind the one we are handling.
    """

    def __init__(
        self,
        *,
        client_side: bool,
        check: Callable[[Sequence[str]], str],
        on_request: Callable[[Tunnel, int, dict[str, str]], None] | None = None,
    ) -> None:
        self._check = check
        self._on_request = on_request
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, Flow] = {}  # flows with bytes that found no room, oldest first
        self.flows: dict[int, Flow] = {}
        self.peer = ""
        self.stalled = False  # the TLS socket takes no more
        self.going_away = False
        self._broken = False  # the engine has given up and takes no more calls
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()  # the peer's SETTINGS are here
        self.closed: asyncio.Future[None] = loop.create_future()
        self.h2 = Connection(H2Configuration(client_side=client_side, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(
            client=client_side,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: FRAME_SIZE,
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: 65536,
                **({SettingCodes.ENABLE_PUSH: 0} if client_side else {}),
            },
        )
        self.h2.max_inbound_frame_size = (
            FRAME_SIZE  # h2 would wait for an ACK of what it opened with
        )

    @property
    def alive(self) -> bool:
        """Can anything still be said here?"""
        return self._transport is not None and not self._broken and not self.closed.done()

    @property
    def usable(self) -> bool:
        """May another stream be opened here?"""
        limit = min(MAX_STREAMS, self.h2.remote_settings.max_concurrent_streams)
        return self.alive and self.ready.done() and not self.going_away and len(self.flows) < limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is over: check the name, then speak."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        tls = cast("ssl.SSLObject", transport.get_extra_info("ssl_object"))
        try:
            self.peer = self._check(peer_names(tls))
        except IdentityError as error:
            log.warning("refused: %s", error)
            self.ready.set_exception(error)
            self.ready.exception()  # a server has nobody who would await it
            self._transport.abort()
            return
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Feed the engine, hand its events on, send what it wants sent."""
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            log.warning("protocol error of the peer: %s", error)
            self.flush()
            self._broken = True
            self._close()
            return
        for event in events:
            self._handle(event)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """A tunnel that ends takes its streams with it, and they must not look finished."""
        self.closed.set_result(None)
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionResetError("peer closed in the handshake"))
            self.ready.exception()
        for flow in list(self.flows.values()):
            flow.stream_reset()

    def pause_writing(self) -> None:
        """The TLS socket is full: flows stop feeding it."""
        self.stalled = True

    def resume_writing(self) -> None:
        """It drained: let the waiting flows go on, in the order they came."""
        self.stalled = False
        self._pump(list(self._waiting.values()))
        self.flush()

    async def wait_closed(self) -> None:
        """Until the connection is gone; one that never finished its handshake was never here."""
        if self._transport is not None:
            await self.closed

    def open(self, flow: Flow, headers: Headers) -> int:
        """As a client: ask for a stream; the answer arrives at `flow.answered`."""
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, headers)
        self.flows[stream_id] = flow
        self.flush()
        return stream_id

    def respond(self, stream_id: int, status: int, *, end: bool) -> None:
        """As a server: answer a request, if it is still there."""
        if not self.alive:
            return
        try:
            self.h2.send_headers(stream_id, [(":status", str(status))], end_stream=end)
        except h2.exceptions.ProtocolError:
            return  # the peer has reset it meanwhile
        self.flush()

    def send(self, flow: Flow, data: memoryview) -> memoryview:
        """Send what may go now; give back the rest, whose flow is pumped when there is room."""
        stream_id = flow.stream_id
        with suppress(StreamClosedError):
            while data and not self.stalled and self.alive:
                window = self.h2.local_flow_control_window(stream_id)
                room = min(window, self.h2.max_outbound_frame_size, len(data))
                if room <= 0:
                    break
                self.h2.send_data(stream_id, data[:room])
                data = data[room:]
                self.flush()
        if data:
            self._waiting[stream_id] = flow
        else:
            self._waiting.pop(stream_id, None)
        return data

    def end(self, flow: Flow) -> None:
        """END_STREAM."""
        if self.alive:
            with suppress(StreamClosedError):
                self.h2.end_stream(flow.stream_id)
            self.flush()

    def reset(self, flow: Flow, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """RST_STREAM, if the stream is still there."""
        if flow.stream_id in self.flows and self.alive:
            with suppress(StreamClosedError):
                self.h2.reset_stream(flow.stream_id, code)
            self.flush()
        self.forget(flow)

    def credit(self, flow: Flow, size: int) -> None:
        """The application took `size` bytes: let the peer send as many again."""
        if size and self.alive:
            self.h2.acknowledge_received_data(size, flow.stream_id)

    def forget(self, flow: Flow) -> None:
        """The stream is over."""
        self.flows.pop(flow.stream_id, None)
        self._waiting.pop(flow.stream_id, None)
        if self.going_away and not self.flows:
            self._close()

    def shut_down(self) -> None:
        """As a server: no new streams, the running ones may finish, then close."""
        frame = GoAwayFrame(last_stream_id=NO_MORE_STREAMS, error_code=ErrorCodes.NO_ERROR)
        self.going_away = True
        if self._transport is not None and self.alive:
            self._transport.write(frame.serialize())
        if not self.flows:
            self._close()

    def flush(self) -> None:
        """Give the engine's bytes to the TLS socket."""
        data = self.h2.data_to_send()
        if data and self._transport is not None and self.alive:
            self._transport.write(data)

    def abort(self) -> None:
        """Leave without a word, as a killed process would."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _pump(self, flows: Sequence[Flow]) -> None:
        for flow in flows:
            flow.pump()

    def _handle(self, event: Event) -> None:
        match event:
            case h2.events.DataReceived():
                stream, size = event.stream_id, event.flow_controlled_length or 0
                if flow := self.flows.get(stream):
                    flow.stream_data(event.data or b"", size)
                else:
                    self.h2.acknowledge_received_data(size, stream)
            case h2.events.WindowUpdated(stream_id=0) | h2.events.RemoteSettingsChanged():
                if not self.ready.done():
                    self.ready.set_result(None)
                self._pump(list(self._waiting.values()))
            case h2.events.WindowUpdated():
                if flow := self._waiting.get(event.stream_id):
                    flow.pump()
            case h2.events.StreamEnded():
                if flow := self.flows.get(event.stream_id):
                    flow.stream_ended()
            case h2.events.StreamReset():
                if flow := self.flows.get(event.stream_id):
                    flow.stream_reset()
            case h2.events.RequestReceived():
                self._request(event.stream_id, event.headers or [])
            case h2.events.ResponseReceived():
                if flow := self.flows.get(event.stream_id):
                    flow.answered(_status(event.headers or []))
            case h2.events.ConnectionTerminated():
                self.going_away = True
                last = event.last_stream_id or 0
                for stream, flow in list(self.flows.items()):
                    if stream > last:
                        flow.stream_reset()
                if not self.flows:
                    self._close()

    def _request(self, stream: int, headers: Sequence[object]) -> None:
        if self.going_away or self._on_request is None:
            self.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            return
        self._on_request(self, stream, dict(cast("Headers", headers)))


def _status(headers: Sequence[object]) -> int:
    return int(dict(cast("Headers", headers))[":status"])
