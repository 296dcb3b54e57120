"""One end of a tunnel, spoken by Python's `h2` over a blocking TLS socket, one step at a time.

Not a proxy: a test tells it what to say, and asks what it heard. `spelling.py` chooses the words.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import h2.connection
import h2.events
import h2.settings
from h2.config import H2Configuration
from h2.settings import SettingCodes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from hyperframe.frame import Frame

    from tests.interop.spelling import Spelling

DEADLINE = 30.0
Headers = list[tuple[str, str]]


@dataclass
class Heard:
    """What came on one stream."""

    head: dict[str, str] = field(default_factory=dict)
    informational: list[str] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None


class ScriptedPeer:
    """Speaks as a client or as a server."""

    def __init__(
        self,
        tls: ssl.SSLSocket,
        spelling: Spelling,
        *,
        client: bool,
        settings: Mapping[SettingCodes, int] | None = None,
    ) -> None:
        self._tls = tls
        self._tls.settimeout(DEADLINE)
        self._tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._spelling = spelling.again()
        self._owed: dict[int, int] = defaultdict(int)
        self.heard: dict[int, Heard] = defaultdict(Heard)
        self.pongs = 0
        self.settings_acknowledged = 0
        self.closed = False
        self.pays = True
        """Give windows back by itself; a test that counts them does it by hand."""
        self.h2 = h2.connection.H2Connection(
            H2Configuration(client_side=client, header_encoding="utf-8")
        )
        if settings:
            self.h2.local_settings = h2.settings.Settings(
                client=client, initial_values={**_DEFAULTS, **settings}
            )
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._tls.close()

    def connect(self, authority: str, extra: Sequence[tuple[str, str]] = ()) -> int:
        """Client: ask for a tunnel."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "CONNECT"), (":authority", authority), *extra]
        self.h2.send_headers(stream, head)
        self.flush()
        return stream

    def says(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send all of it, as windows open, in frames of the spelling's choice."""
        left = memoryview(data)
        while left:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                self.listen()
                continue
            size = self._spelling.up_to(min(room, len(left)))
            padding = self._spelling.padding(room - size - 1)
            last = end and size == len(left)
            self.h2.send_data(stream, bytes(left[:size]), end_stream=last, pad_length=padding)
            left = left[size:]
            self.flush()
        if end and not data:
            self.h2.end_stream(stream)
            self.flush()

    def raw(self, *frames: Frame) -> None:
        """Frames that `h2` would not send, as they are."""
        self._write(b"".join(frame.serialize() for frame in frames))

    def flush(self) -> None:
        """Send what `h2` has to say."""
        self._write(self._spelling.rewrite(self.h2.data_to_send()))

    def listen_until(self, condition: Callable[[], object]) -> None:
        """Take what comes until the condition holds; the socket's deadline bounds each wait."""
        while not condition():
            assert not self.closed, "the connection ended before that"
            self.listen()

    def until_answered(self, stream: int) -> None:
        """Until its head has come."""
        self.listen_until(lambda: self.heard[stream].head)

    def until_ended(self, stream: int) -> None:
        """Until its END_STREAM has come."""
        self.listen_until(lambda: self.heard[stream].ended)

    def until_reset(self, stream: int) -> None:
        """Until its RST_STREAM has come."""
        self.listen_until(lambda: self.heard[stream].reset is not None)

    def listen(self) -> None:
        """Take what comes next."""
        self._pay()
        data = self._tls.recv(65536)
        self.closed = not data
        # `h2` too is fed as the spelling says.
        for piece in self._spelling.pieces(data):
            for event in self.h2.receive_data(piece):
                self._take(event)
        self.flush()

    def _write(self, data: bytes) -> None:
        for piece in self._spelling.pieces(data):
            self._tls.sendall(piece)

    def _pay(self) -> None:
        """Give back every window: whoever waits for bytes must not owe any."""
        for stream, size in self._owed.items():
            if size and self.pays:
                self.h2.acknowledge_received_data(size, stream)
        self._owed.clear()
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived() | h2.events.ResponseReceived():
                self.heard[event.stream_id].head = _fields(event.headers)
            case h2.events.InformationalResponseReceived():
                self.heard[event.stream_id].informational.append(_fields(event.headers)[":status"])
            case h2.events.TrailersReceived():
                self.heard[event.stream_id].trailers = _fields(event.headers)
            case h2.events.DataReceived():
                self.heard[event.stream_id].data += event.data or b""
                self._owed[event.stream_id] += event.flow_controlled_length or 0
            case h2.events.StreamEnded():
                self.heard[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.heard[event.stream_id].reset = int(event.error_code or 0)
            case h2.events.PingAckReceived():
                self.pongs += 1
            case h2.events.SettingsAcknowledged():
                self.settings_acknowledged += 1


_DEFAULTS = {
    SettingCodes.MAX_CONCURRENT_STREAMS: 100,
    SettingCodes.MAX_HEADER_LIST_SIZE: 65536,
}


def _fields(headers: object) -> dict[str, str]:
    return dict(headers or [])  # type: ignore[call-overload, no-any-return]
