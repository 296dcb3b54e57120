"""Reading a PROXY v2 header as an application does: by the protocol's text, strictly, to its last byte.

Independent of the node's encoder. https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, §2.2.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from tests.support.apps import End

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
IDENTITY = 0xD0


@dataclass(frozen=True, kw_only=True)
class ProxyHeader:
    """What an application was told."""

    source: str | None
    """`ip:port`; None if the header has no addresses."""
    destination: str | None
    identity: str | None


async def read_header(reader: asyncio.StreamReader) -> ProxyHeader:
    """Takes a header off a connection; what follows it is left there."""
    fixed = await reader.readexactly(16)
    return _parsed(fixed, await reader.readexactly(_length(fixed)))


def take_header(end: End) -> ProxyHeader:
    """The same for a plain socket."""
    fixed = end.takes(16)
    return _parsed(fixed, end.takes(_length(fixed)))


def _length(fixed: bytes) -> int:
    assert fixed[:12] == SIGNATURE, fixed
    assert fixed[12] == 0x21, "version 2, PROXY"
    return int.from_bytes(fixed[14:])


def _parsed(fixed: bytes, body: bytes) -> ProxyHeader:
    family = fixed[13]
    source = destination = None
    if family in (0x11, 0x21):
        kind, size = (socket.AF_INET, 4) if family == 0x11 else (socket.AF_INET6, 16)
        ports = struct.unpack("!HH", body[2 * size : 2 * size + 4])
        ips = [socket.inet_ntop(kind, body[at : at + size]) for at in (0, size)]
        source, destination = (
            f"{ip}:{port}" if kind == socket.AF_INET else f"[{ip}]:{port}"
            for ip, port in zip(ips, ports, strict=True)
        )
        body = body[2 * size + 4 :]
    else:
        assert family == 0x01, f"neither TCP nor a stream without addresses: {family:#x}"
    told = dict(_tlvs(body))
    identity = told.pop(IDENTITY, None)
    assert not told, f"nothing else is told: {told}"
    return ProxyHeader(
        source=source,
        destination=destination,
        identity=None if identity is None else identity.decode(),
    )


def _tlvs(body: bytes) -> list[tuple[int, bytes]]:
    tlvs = []
    while body:
        kind, length = struct.unpack("!BH", body[:3])
        value, body = body[3 : 3 + length], body[3 + length :]
        assert len(value) == length, "a TLV that is longer than the header"
        tlvs.append((kind, value))
    return tlvs
