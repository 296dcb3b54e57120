"""An application's socket, joined to a stream of a tunnel.

Nothing is buffered beyond one read and what flow control has promised:

    application → Flow.data_received → DATA while both windows and the TLS socket allow; the rest
                  waits here and the application's socket is not read meanwhile
    tunnel      → Flow.stream_data → application's socket; the window is only given back while that
                  socket takes the bytes

Ends keep their kind: FIN ⇔ END_STREAM, RST ⇔ RST_STREAM, and a lost tunnel is an RST for everyone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from bench.pure_python.tunnel import Tunnel

log = logging.getLogger("pure_python")

# Bytes that may wait in user space for a slow socket before its source is held back.
HIGH_WATER = 512 * 1024


class Flow(asyncio.Protocol):
    """An application's socket, joined to a stream."""

    def __init__(self, tunnel: Tunnel | None = None, stream_id: int = 0) -> None:
        self.tunnel = tunnel
        self.stream_id = stream_id
        self._local: asyncio.Transport | None = None
        self._pending = memoryview(b"")  # read from the application, not yet allowed to go
        self._early: list[bytes] = []  # arrived before the application's socket did
        self._owed = 0  # bytes whose credit is held back
        self._full = False  # the application does not read
        self._local_eof = self._sent_end = self._got_end = self._over = False

    # the application's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is here; bytes that came before it are delivered first."""
        self._local = cast("asyncio.Transport", transport)
        self._local.set_write_buffer_limits(high=HIGH_WATER)
        if self._over:
            reset_socket(self._local)
            return
        for data in self._early:
            self._local.write(data)
        self._early.clear()
        if self._got_end:
            self._local.write_eof()
        self._pay()

    def data_received(self, data: bytes) -> None:
        """The application said something."""
        self._pending = memoryview(data)
        self.pump()

    def eof_received(self) -> bool:
        """The application finished sending; it may still read."""
        self._local_eof = True
        self.pump()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The application is gone; if the stream was not finished, that is a reset."""
        if not self._over and self.tunnel is not None:
            self.tunnel.reset(self)
        self._over = True

    def pause_writing(self) -> None:
        """The application does not read: withhold credit."""
        self._full = True

    def resume_writing(self) -> None:
        """It reads again: pay what is owed."""
        self._full = False
        self._pay()
        if self.tunnel is not None:
            self.tunnel.flush()

    # the tunnel's side

    def pump(self) -> None:
        """Move what may go; read more of the application only when nothing is left."""
        if self._over or self.tunnel is None or self._local is None:
            return
        if self._pending:
            self._pending = self.tunnel.send(self, self._pending)
        if self._pending:
            self._local.pause_reading()
            return
        self._local.resume_reading()
        if self._local_eof and not self._sent_end:
            self._sent_end = True
            self.tunnel.end(self)
            self._finish()

    def answered(self, status: int) -> None:
        """As a client: the far side has connected, or has not."""
        if status != 200:
            log.warning("refused by the peer: status %d", status)
            if self.tunnel is not None:
                self.tunnel.reset(self)
            self.stream_reset()
        elif self._local is not None:
            self._local.resume_reading()

    def stream_data(self, data: bytes, size: int) -> None:
        """Bytes for the application; `size` counts their padding too."""
        self._owed += size
        if self._local is None:
            self._early.append(data)
            return
        self._local.write(data)
        self._pay()

    def stream_ended(self) -> None:
        """The far application finished sending."""
        self._got_end = True
        if self._local is not None:
            if not self._local.is_closing():
                self._local.write_eof()
            self._finish()

    def stream_reset(self) -> None:
        """The stream did not end, it broke off: so does the application's connection."""
        if self._over:
            return
        self._over = True
        if self.tunnel is not None:
            self.tunnel.forget(self)
        if self._local is not None:
            reset_socket(self._local)

    def _pay(self) -> None:
        if not self._full and self.tunnel is not None:
            owed, self._owed = self._owed, 0
            self.tunnel.credit(self, owed)

    def _finish(self) -> None:
        if self._sent_end and self._got_end and self._local is not None and self.tunnel is not None:
            self._over = True
            self._local.close()
            self.tunnel.forget(self)


def reset_socket(transport: asyncio.Transport) -> None:
    """End with RST, behind whatever is still in the transport's own buffer."""
    local = transport.get_extra_info("socket")
    if local is not None and not transport.is_closing():
        local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if transport.get_write_buffer_size():
        transport.close()
    else:
        transport.abort()
