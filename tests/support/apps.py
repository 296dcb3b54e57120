"""Applications for tests: two ends of a connection that a story is told about, line by line.

    client, server = app.pair(lambda: direct(way_in))
    client.says(b"question").finishes()
    assert server.hears() == Heard(b"question", "FIN")

Blocking sockets with a deadline on each step, so a story runs in the order in which it is written.
Knows nothing of tunnels: the same story runs over plain TCP and shows what is right.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 30.0
Address = tuple[str, int]


@dataclass(frozen=True)
class Heard:
    """What one end was told: bytes, and how they ended."""

    data: bytes
    end: str
    """`FIN`, or an error's name such as `ECONNRESET`."""

    def __repr__(self) -> str:
        """Long data by its length."""
        more = f"… {len(self.data)} bytes" if len(self.data) > 40 else ""
        return f"Heard({self.data[:40]!r}{more}, {self.end})"


class End:
    """One end of a connection: says, hears, and ends in every way that TCP knows."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(DEADLINE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def says(self, data: bytes) -> Self:
        """Send all of it."""
        self.socket.sendall(data)
        return self

    def finishes(self) -> Self:
        """FIN: nothing more from here, the other direction stays open."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def resets(self) -> Self:
        """RST, whatever was read (SO_LINGER with no time to linger)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        return self

    def closes(self) -> Self:
        """What `close(2)` makes of it: FIN, or RST if there are bytes that nobody read."""
        self.socket.close()
        return self

    def takes(self, count: int) -> bytes:
        """Read exactly this many bytes; an end before that is an error."""
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError(f"FIN after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)

    def waits_for_bytes(self) -> Self:
        """Until something can be read, without reading it."""
        assert self.socket.recv(1, socket.MSG_PEEK), "FIN instead of bytes"
        return self

    def hears(self) -> Heard:
        """Read to the end, whatever the end is."""
        data = bytearray()
        while True:
            try:
                piece = self.socket.recv(1 << 20)
            except TimeoutError:
                return Heard(bytes(data), "nothing more")
            except OSError as error:
                return Heard(bytes(data), errno.errorcode.get(error.errno or 0, "?"))
            if not piece:
                return Heard(bytes(data), "FIN")
            data += piece

    def breaks(self, within: float = DEADLINE) -> str:
        """Wait, after a FIN was heard, for the connection's error: `EPIPE` is a RST in this state."""
        poll = select.poll()
        poll.register(self.socket, 0)  # errors are always reported
        if not poll.poll(within * 1000):
            return "nothing more"
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.errorcode.get(code, "closed")

    def says_until_it_blocks(self, most: int, patience: float = 0.3) -> int:
        """Send until nothing more is taken for a while; gives how much was."""
        self.socket.setblocking(False)
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        piece, sent = bytes(1 << 18), 0
        while poll.poll(patience * 1000):
            assert sent < most, f"{sent} bytes were taken and nobody reads them"
            sent += self.socket.send(piece)
        self.socket.settimeout(DEADLINE)
        return sent

    def says_until_it_breaks(self, piece: bytes = b"more") -> str:
        """Send until that fails, and give the error's name."""
        deadline = time.monotonic() + DEADLINE
        poll = select.poll()
        poll.register(self.socket, 0)
        while time.monotonic() < deadline:
            try:
                self.socket.sendall(piece)
            except OSError as error:
                return errno.errorcode.get(error.errno or 0, "?")
            poll.poll(20)
        return "nothing more"


class Application:
    """A server that does what the story says with the connections it accepts.

    Owns every end that it gave out or adopted, and closes them with itself.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.address: Address = listener.getsockname()[:2]
        self._listener = listener
        self._ends: list[End] = []

    @classmethod
    def listen(cls, host: str, port: int = 0) -> Self:
        """Open a port."""
        listener = socket.create_server((host, port), backlog=1024)
        listener.settimeout(DEADLINE)
        return cls(listener)

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the port and what is left of the connections."""
        self._listener.close()
        for end in self._ends:
            end.socket.close()

    def stops_listening(self) -> None:
        """Close the port: whoever connects now is refused."""
        self._listener.close()

    def accepts(self) -> End:
        """The next connection."""
        return self.adopts(self._listener.accept()[0])

    def pair(self, dial: Callable[[], socket.socket]) -> tuple[End, End]:
        """Both ends of a new connection: the client's, made by `dial`, and the server's."""
        client = self.adopts(dial())
        return client, self.accepts()

    def adopts(self, connection: socket.socket) -> End:
        """An end that is closed with the application."""
        end = End(connection)
        self._ends.append(end)
        return end


def direct(address: Address) -> socket.socket:
    """A plain connection, to an application or to a node's local port."""
    return socket.create_connection(address, DEADLINE)


def hears_at_once(address: Address) -> Heard:
    """What a client is told that only connects; the end may come before `connect` has returned."""
    try:
        with socket.create_connection(address, DEADLINE) as connection:
            return End(connection).hears()
    except ConnectionResetError:
        return Heard(b"", "ECONNRESET")


class SocksReply(Exception):
    """The proxy's answer was not `succeeded`; the connection is still open for reading its end."""

    def __init__(self, code: int, connection: socket.socket) -> None:
        super().__init__(f"SOCKS5 reply {code}")
        self.code = code
        self.connection = connection


def through_socks5(proxy: Address, target: str, port: int) -> socket.socket:
    """A connection by way of SOCKS5 (RFC 1928): `target` is an IPv4 address or a name."""
    connection = socket.create_connection(proxy, DEADLINE)
    try:
        connection.sendall(b"\x05\x01\x00")
        _exactly(connection, 2, b"\x05\x00")
        try:
            address = b"\x01" + socket.inet_aton(target)
        except OSError:
            name = target.encode()
            address = b"\x03" + bytes([len(name)]) + name
        connection.sendall(b"\x05\x01\x00" + address + port.to_bytes(2, "big"))
        head = _exactly(connection, 4)
        _exactly(connection, {1: 4, 4: 16}[head[3]] + 2)
    except BaseException:
        connection.close()
        raise
    if head[1] != 0:
        raise SocksReply(head[1], connection)
    return connection


def _exactly(connection: socket.socket, count: int, expected: bytes | None = None) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError(f"FIN after {len(data)} of {count} bytes")
        data += piece
    assert expected is None or data == expected, data
    return data
