"""The line between two nodes, in our hands: it can be cut in every way, and counts what passes.

A node whose `hbonePort` is the wire's dials the wire instead of its peer. Bytes only; what they mean is
`peers.py`'s business.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.support.nodes import Address

_CHUNK = 1 << 18


class Wire:
    """A TCP relay on a free port of one address, in a thread of its own."""

    def __init__(self, to: Address, *, host: str | None = None) -> None:
        """Listens on `host`, the peer's own address if None: nodes dial workloads where they live."""
        self.passed = 0
        """Bytes so far, both ways."""
        self._to = to
        self._listener = socket.create_server((host or to[0], 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._lines: list[tuple[socket.socket, socket.socket]] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)

    def __enter__(self) -> Self:
        """Begin to relay."""
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self._stopping = True
        self._wake.send(b"x")
        self._thread.join(10)
        self.cut(how="FIN")
        self._selector.close()
        for end in (self._listener, self._wake, self._woken):
            end.close()

    def cut(self, *, how: str) -> None:
        """End every line now: `FIN` to both sides, without a word of TLS, or `RST` to both."""
        with self._lock:
            lines, self._lines = self._lines, []
            for line in lines:
                for end in line:
                    self._forget(end)
                    if how == "RST":
                        linger = struct.pack("ii", 1, 0)
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    end.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.data, socket.socket):
                        self._pass_on(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._to, 10)
        except OSError:
            near.close()
            return
        self._lines.append((near, far))
        for end, other in ((near, far), (far, near)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(end, selectors.EVENT_READ, other)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        if source.fileno() < 0:
            return  # cut since the selector looked
        try:
            data = source.recv(_CHUNK)
            self.passed += len(data)
            sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._forget(source)
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                self._forget(sink)

    def _forget(self, end: socket.socket) -> None:
        with suppress(KeyError, ValueError):  # it had ended before
            self._selector.unregister(end)
