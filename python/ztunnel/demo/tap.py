"""A tap in the wire: relays connections, counts their bytes, looks for a text in them.

    python -m ztunnel.demo.tap HEX-TEXT LISTEN=UPSTREAM[@SOURCE] …

Prints `ready`, and a JSON object for each line on its standard input: one entry for each relay, in their
order. Ends with its input. A process of its own, so that it does not share an interpreter with the clients.
It adds nothing: an end comes out as it came in, FIN as FIN, RST as RST.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 256 * 1024
FIRST = 8
DIAL = 5.0


class Scanner:
    """Counts bytes of one direction and how often a text is in them, however they are cut into chunks."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._kept = len(text) - 1
        self._buffer = bytearray(self._kept + CHUNK)
        self._room = memoryview(self._buffer)[self._kept :]
        self._filled = 0
        self.count = 0
        self.found = 0
        self.first = b""

    @property
    def room(self) -> memoryview:
        """Where the next chunk goes."""
        return self._room

    def take(self, length: int) -> memoryview:
        """Looks at the chunk that was put into `room`; gives it back for sending."""
        self.count += length
        if len(self.first) < FIRST:
            self.first += bytes(self._room[: FIRST - len(self.first)][:length])
        # The end of the chunk before stands in front of this one: too short to hold the text by itself.
        begin = self._kept - self._filled
        self.found += self._buffer.count(self._text, begin, self._kept + length)
        return self._room[:length]

    def sent(self, length: int) -> None:
        """The chunk is on its way: keeps its end for the next look."""
        end = self._kept + length
        self._filled = min(self._kept, self._filled + length)
        self._buffer[self._kept - self._filled : self._kept] = self._buffer[
            end - self._filled : end
        ]


class Relay:
    """One port of the tap."""

    def __init__(
        self,
        listen: tuple[str, int],
        upstream: tuple[str, int],
        source: str | None,
        text: bytes,
    ) -> None:
        self._upstream = upstream
        self._source = source
        self._text = text
        self._scanners: list[tuple[Scanner, Scanner]] = []
        self._listener = socket.create_server(listen, backlog=256)

    def serve(self) -> None:
        """Until the process ends."""
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def report(self) -> dict[str, object]:
        """What was seen so far."""
        scanners = list(self._scanners)
        return {
            "connections": len(scanners),
            "up": sum(up.count for up, _ in scanners),
            "down": sum(down.count for _, down in scanners),
            "found": sum(up.found + down.found for up, down in scanners),
            "first": scanners[0][0].first.hex() if scanners else "",
        }

    def _relay(self, client: socket.socket) -> None:
        source = (self._source, 0) if self._source else None
        try:
            server = socket.create_connection(self._upstream, DIAL, source_address=source)
        except OSError:
            _abort(client)
            return
        up, down = Scanner(self._text), Scanner(self._text)
        self._scanners.append((up, down))
        _Pair(client, server).run(up, down)


class _Pair:
    """Two sockets and a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client, self._server = client, server
        for one in (client, server):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._broken = False
        self._wake = os.eventfd(0)

    def run(self, up: Scanner, down: Scanner) -> None:
        back = threading.Thread(
            target=self._copy, args=(self._server, self._client, down), daemon=True
        )
        back.start()
        self._copy(self._client, self._server, up)
        back.join()
        # Nobody waits on the sockets any more, so that a close is a close and a RST goes out at once.
        for one in (self._client, self._server):
            if self._broken:
                _abort(one)
            one.close()
        os.close(self._wake)

    def _copy(self, source: socket.socket, sink: socket.socket, scanner: Scanner) -> None:
        try:
            while length := self._when(
                source, select.POLLIN, partial(source.recv_into, scanner.room)
            ):
                left = scanner.take(length)
                while left:
                    left = left[self._when(sink, select.POLLOUT, partial(sink.send, left)) :]
                scanner.sent(length)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._broken = True
            os.eventfd_write(self._wake, 1)

    def _when(self, one: socket.socket, event: int, act: Callable[[], int]) -> int:
        """Acts as soon as the socket lets us; `OSError` if it never will, or the other direction broke."""
        poll = select.poll()
        poll.register(one, event)
        poll.register(self._wake, select.POLLIN)
        while True:
            if any(number == self._wake for number, _ in poll.poll()):
                raise ConnectionAbortedError
            with contextlib.suppress(BlockingIOError):
                return act()


def _abort(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """See the top of the file."""
    text = bytes.fromhex(sys.argv[1])
    relays = []
    for argument in sys.argv[2:]:
        listen, _, rest = argument.partition("=")
        upstream, _, source = rest.partition("@")
        relays.append(Relay(_address(listen), _address(upstream), source or None, text))
    for relay in relays:
        threading.Thread(target=relay.serve, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(json.dumps([relay.report() for relay in relays]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
