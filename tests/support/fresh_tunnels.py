"""A load in which every connection makes a tunnel of its own, so that every connection is a handshake.

Tunnels are shared by connections of one client address only (spec/dataplane.md §5), and loopback has sixteen million.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.support.nodes import Address

DEADLINE = 30.0
# A tunnel each: more of them a second than this would be a test of handshakes, and of the machine.
PAUSE = 0.01


class Echo:
    """An application that gives back what it is told."""

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0), backlog=512)
        self.address: Address = self._listener.getsockname()[:2]

    def __enter__(self) -> Self:
        """Serve, in threads that end with their connections."""
        threading.Thread(target=self._serve, name="echo", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no longer."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        while data := connection.recv(65536):
            connection.sendall(data)


@dataclass
class Load:
    """`with Load(ways):` connects through each of them again and again, one after the other, each in a thread."""

    ways: list[Address]
    connections: int = 0
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, way), daemon=True)
            for number, way in enumerate(self.ways)
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, once the connections under way have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(3 * DEADLINE)

    def _run(self, number: int, way: Address) -> None:
        for count in itertools.count(256):
            if self._stop.wait(PAUSE):
                return
            source = f"127.{200 + number}.{count // 256 % 256}.{count % 256}"
            began = time.monotonic()
            try:
                _question(way, source)
            except OSError as error:
                took = time.monotonic() - began
                self.failures.append(f"{time.time():.3f} after {took:.3f} s: {error}")
            else:
                self.connections += 1


def _question(way: Address, source: str) -> None:
    with socket.create_connection(way, DEADLINE, source_address=(source, 0)) as connection:
        connection.settimeout(DEADLINE)
        connection.sendall(b"question")
        answer = b""
        while len(answer) < 8:
            piece = connection.recv(8)
            if not piece:
                raise ConnectionError(f"ended after {answer!r}")
            answer += piece
