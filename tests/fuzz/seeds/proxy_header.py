"""Seeds for `proxy_header`: pairs of addresses, each behind a byte for its kind, then an identity."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = b"spiffe://cluster.local/ns/default/sa/client"
ADDRESSES = {
    "v4": ("10.0.0.1", 1234),
    "v6": ("2001:db8::1", 65535),
    "mapped": ("::ffff:10.0.0.1", 80),
}
IDENTITIES = {"nobody": b"", "somebody": WHO, "not_ascii": "ähnlich".encode(), "long": b"a" * 2048}


def proxy_header() -> Iterator[tuple[str, bytes]]:
    """Every pair of kinds, and each identity once per pair of equal ones."""
    for source in ADDRESSES:
        for destination in ADDRESSES:
            for name, identity in IDENTITIES.items():
                if source == destination or name == "somebody":
                    content = _address(source) + _address(destination) + identity
                    yield f"{source}_to_{destination}_{name}", content


def _address(kind: str) -> bytes:
    ip, port = ADDRESSES[kind]
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return (
        bytes([family == socket.AF_INET6]) + socket.inet_pton(family, ip) + struct.pack("!H", port)
    )
