"""Clients that have never heard of a mesh: sockets, an HTTP request, SOCKS5, curl.

Each either gives what it saw or raises; none waits longer than its socket's time-out. `Ways` knows how a
connection of theirs gets into node A.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.demo.network import Network, Side
from ztunnel.demo.places import HOST, HTTP, MARK, Places
from ztunnel.demo.processes import PATIENCE
from ztunnel.demo.story import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a connection ended, as its reader saw it."""

    kind: str
    """`FIN`, or `RST` (ECONNRESET)."""
    received: int
    """Bytes before that."""


class Refused(Exception):
    """SOCKS5 answered with something else than success; the message is its meaning in RFC 1928 §6."""


class Ways:
    """The ways from a client to a service of node B."""

    def __init__(self, places: Places, network: Network) -> None:
        self._places = places
        self._network = network

    def open(
        self, port: int, *, source: str | None = None, receive_buffer: int | None = None
    ) -> socket.socket:
        """A connection to a service port of `web`: through node A's local port, or captured on its way to the VIP."""
        at = self._places.forwards.get(port, f"{self._places.vip}:{port}")
        return self._connect(Side.NEAR, at, source=source, receive_buffer=receive_buffer)

    def socks(self, port: int) -> socket.socket:
        """A connection to the service by name, through SOCKS5 (RFC 1928); `Refused` with the reply's meaning."""
        if self._places.socks is None:
            raise AssertionError("this layout has no SOCKS5")
        connection = self._connect(Side.NEAR, self._places.socks)
        try:
            connection.sendall(b"\x05\x01\x00")
            if receive_exactly(connection, 2) != b"\x05\x00":
                raise DemoFailed("SOCKS5: no common method of authentication")
            name = HOST.encode()
            connection.sendall(
                b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", port)
            )
            reply = receive_exactly(connection, 10)[1]
            if reply:
                raise Refused(SOCKS_REPLIES.get(reply, f"reply {reply}"))
        except BaseException:
            connection.close()
            raise
        return connection

    def serial(self, side: Side) -> str:
        """The serial number of the certificate that a node shows on its port 15008 now, read from the wire.

        TLS 1.3 lets a client without a certificate come so far; the node then turns it away.
        """
        places = self._places
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        at = places.near_hbone if side is Side.NEAR else places.far_hbone
        with (
            self._connect(side, at, marked=True) as plain,
            context.wrap_socket(plain) as connection,
        ):
            certificate = connection.getpeercert(binary_form=True)
        if certificate is None:
            raise DemoFailed(f"no certificate on {at}")
        return serial_of(certificate)

    def plain(self) -> socket.socket:
        """A connection to the HTTP server around the mesh."""
        at = self._places.plain or self._places.targets[HTTP]
        return self._connect(Side.NEAR, at, marked=True)

    def at(self, address: str, side: Side = Side.NEAR) -> socket.socket:
        """A connection from a side to an address there."""
        return self._connect(side, address, marked=True)

    def _connect(
        self,
        side: Side,
        at: str,
        *,
        source: str | None = None,
        receive_buffer: int | None = None,
        marked: bool = False,
    ) -> socket.socket:
        host, _, port = at.rpartition(":")
        connection = self._network.tcp_socket(side)
        try:
            connection.settimeout(PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if marked and self._places.captured:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                connection.bind((source, 0))
            connection.connect((host, int(port)))
        except BaseException:
            connection.close()
            raise
        return connection


class Fetch:
    """An HTTP/1.0 request and as much of its answer as was asked for, on a connected socket."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._connection = connection
        self._digest = hashlib.sha256()
        self.received = 0
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(CHUNK)
            if not data:
                raise DemoFailed(f"the answer to GET {path} ended in its head: {head!r}")
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        self.status = int(head.split(None, 2)[1])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self.length = int(fields.get(b"content-length", b"-1"))
        self._take(rest)

    def read(self, until: int, progress: Callable[[int], None] | None = None) -> None:
        """Reads on until that many bytes of the body are here; `DemoFailed` if they end before."""
        while self.received < until:
            data = self._connection.recv(CHUNK)
            if not data:
                raise DemoFailed(f"a clean end after {self.received} of {self.length} bytes")
            self._take(data)
            if progress:
                progress(self.received)

    def rest(self) -> str:
        """Reads the whole rest; gives the body's SHA-256."""
        self.read(self.length)
        return self._digest.hexdigest()

    def ending(self) -> Ending:
        """Reads until the end, whatever it is."""
        ending = read_to_end(self._connection)
        return Ending(kind=ending.kind, received=self.received + ending.received)

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        self.received += len(data)


def get(connection: socket.socket, path: str) -> bytes:
    """A small page, whole; `DemoFailed` if it is not."""
    answer = b""
    with connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        while data := connection.recv(CHUNK):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] + b" ":
        raise DemoFailed(f"GET {path}: {head.splitlines()[:1]}")
    if f"content-length: {len(body)}".encode() not in head.lower():
        raise DemoFailed(f"GET {path}: a clean end after {len(body)} bytes, which is not all")
    return body


def read_to_end(connection: socket.socket) -> Ending:
    """Reads until the other side ends; `TimeoutError` if it does not."""
    received = 0
    while True:
        try:
            data = connection.recv(CHUNK)
        except ConnectionResetError:
            return Ending(kind="RST", received=received)
        if not data:
            return Ending(kind="FIN", received=received)
        received += len(data)


def take(connection: socket.socket, size: int) -> None:
    """Reads that many bytes and drops them in the kernel."""
    scratch = bytearray(CHUNK * 4)
    with contextlib.closing(connection):
        while size:
            taken = connection.recv_into(scratch, min(size, len(scratch)), socket.MSG_TRUNC)
            if not taken:
                raise DemoFailed(f"a clean end before the last {size} bytes")
            size -= taken


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """That many bytes; `DemoFailed` if the other side ends before."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise DemoFailed(f"a clean end after {len(data)} of {size} bytes")
        data += more
    return data


def receive_line(connection: socket.socket) -> str:
    """A line of a greeting; `DemoFailed` if the other side ends before."""
    line = b""
    while not line.endswith(b"\n"):
        line += receive_exactly(connection, 1)
    return line.decode().rstrip()


def serial_of(certificate: bytes) -> str:
    """The serial number in a certificate (DER; RFC 5280 §4.1: Certificate → TBSCertificate → version, serial)."""
    to_be_signed = _content(certificate, 0)[0]
    version = _content(certificate, to_be_signed)[0]
    version_start, version_length = _content(certificate, version)
    start, length = _content(certificate, version_start + version_length)
    return certificate[start : start + length].hex().lstrip("0")


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Start and length of the content of the element at `at` (X.690 §8.1.3)."""
    first = der[at + 1]
    if first < 0x80:
        return at + 2, first
    size = first & 0x7F
    return at + 2 + size, int.from_bytes(der[at + 2 : at + 2 + size], "big")


SOCKS_REPLIES = {
    1: "general failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
}
