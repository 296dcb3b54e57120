"""A long fat link: every byte arrives later by the same time, as many at once as anybody likes to send.

    python -m bench.distance.relay --listen HOST:PORT --to HOST:PORT --delay 0.04

Prints `ready HOST:PORT`; when its input ends, one line of JSON: the most bytes that were on their way at once, up (from who
connects) and down. The delay is each way. Connections themselves are made at once: only what is said takes time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, cast

from bench.child import address

if TYPE_CHECKING:
    from bench.workloads import Address

# More than any window of any proxy, several times: the link holds nobody up.
ROOM = 64 * 2**20


class Link:
    """One direction: what was put in comes out `delay` later, in order. Told the time, it has no clock."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self._pieces: deque[tuple[float, bytes]] = deque()
        self.held = 0
        self.most = 0
        """The most that was held at once."""

    def put(self, now: float, data: bytes) -> None:
        """Something sets out; nothing at all is the end."""
        self._pieces.append((now + self.delay, data))
        self.held += len(data)
        self.most = max(self.most, self.held)

    def arrived(self, now: float) -> list[bytes]:
        """What has come through by now."""
        found = []
        while self._pieces and self._pieces[0][0] <= now:
            found.append(self._pieces.popleft()[1])
            self.held -= len(found[-1])
        return found

    @property
    def next(self) -> float | None:
        """When something arrives next."""
        return self._pieces[0][0] if self._pieces else None

    @property
    def is_full(self) -> bool:
        """Nothing more should be put in."""
        return self.held >= ROOM


class Side(asyncio.Protocol):
    """One of a relayed connection's two sides: what it hears goes through a link to the other."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.other: Side | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = True

    @property
    def transport(self) -> asyncio.Transport:
        """Of a side that is connected."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=ROOM)
        if self.other is None:
            self.transport.pause_reading()  # nowhere to go yet

    def joins(self, other: Side) -> None:
        """From now on, what is said here is heard there."""
        self.other, other.other = other, self
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self.link.put(self._loop.time(), data)
        if self.link.is_full:
            self.transport.pause_reading()
        self._waits()

    def eof_received(self) -> bool:
        """asyncio's: the other direction stays open."""
        self.data_received(b"")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio's: what is on the way is lost, too."""
        if self._timer is not None:
            self._timer.cancel()
        if self.other is not None and self.other._transport is not None:
            self._loop.call_later(self.link.delay, self.other.transport.abort)

    def pause_writing(self) -> None:
        """asyncio's."""
        self._writable = False

    def resume_writing(self) -> None:
        """asyncio's."""
        self._writable = True
        if self.other is not None:
            self.other._waits()

    def _waits(self) -> None:
        due = self.link.next
        if self._timer is None and due is not None and self.other is not None:
            self._timer = self._loop.call_at(due, self._delivers)

    def _delivers(self) -> None:
        self._timer = None
        assert self.other is not None
        if not self.other._writable:
            return
        for data in self.link.arrived(self._loop.time()):
            if self.other.transport.is_closing():
                return  # who is gone hears nothing more
            if data:
                self.other.transport.write(data)
            else:
                self.other.transport.write_eof()
        if not self.link.is_full and not self.transport.is_closing():
            self.transport.resume_reading()
        self._waits()


async def relay(listen: Address, to: Address, delay: float, mark: int = 0) -> list[Link]:
    """Relay until standard input ends; all links that there were, up and down by turns."""
    loop = asyncio.get_running_loop()
    links: list[Link] = []
    dials: set[asyncio.Task[None]] = set()

    def accepts() -> Side:
        up, down = Link(delay), Link(delay)
        links.extend((up, down))
        near = Side(up)

        async def dial() -> None:
            connection = socket.socket()
            connection.setblocking(False)
            try:
                if mark:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                await loop.sock_connect(connection, to)
            except OSError:
                connection.close()
                near.transport.abort()
                return
            _, far = await loop.create_connection(lambda: Side(down), sock=connection)
            near.joins(far)
            far.transport.resume_reading()

        task = loop.create_task(dial())
        dials.add(task)
        task.add_done_callback(dials.discard)
        return near

    server = await loop.create_server(accepts, *listen)
    print("ready {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    return links


def main() -> None:
    """Relay."""
    parser = argparse.ArgumentParser(prog="python -m bench.distance.relay")
    parser.add_argument("--listen", type=address, required=True)
    parser.add_argument("--to", type=address, required=True)
    parser.add_argument("--delay", type=float, required=True, help="each way, seconds")
    parser.add_argument("--mark", type=int, default=0, help="SO_MARK of its own connections")
    asked = parser.parse_args()
    links = asyncio.run(relay(asked.listen, asked.to, asked.delay, asked.mark))
    most = {"up": max((link.most for link in links[::2]), default=0)}
    print(json.dumps({**most, "down": max((link.most for link in links[1::2]), default=0)}))


if __name__ == "__main__":
    main()
