"""Finding private keys of P-256 in memory: in every form in which a program writes one down.

Knows what a key's public half is, and so can tell a private key from 32 bytes that look like one. What it cannot find is
the form in which a cryptographic library computes, which no two of them share.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# RFC 7468 §10–11, with a body: the label alone is in many a message.
PEM = re.compile(
    rb"-----BEGIN (?:EC |RSA |ENCRYPTED )?PRIVATE KEY-----(?:\\n|\s)+[A-Za-z0-9+/=]{40}"
)
# RFC 5915: an OCTET STRING of 32 bytes, inside SEC 1 and PKCS#8 alike.
SCALAR = re.compile(rb"\x04\x20(.{32})", re.DOTALL)
# As text: hexadecimal, base64 of either encoding.
HEXADECIMAL = re.compile(rb"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
BASE64 = re.compile(rb"[A-Za-z0-9+/]{43,344}={0,2}")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PIECE = 1 << 22


def private_keys_in(memory: Iterable[bytes], publics: Iterable[bytes]) -> list[str]:
    """How and where each private key stands there whose public half (an uncompressed point) is given, or any in PEM."""
    known, found = set(publics), []
    for piece in memory:
        found += [f"PEM at {m.start()}" for m in PEM.finditer(piece)]
        found += [f"DER at {at}" for at, one in _scalars(piece) if _public(one) in known]
    return found


def _scalars(piece: bytes) -> Iterator[tuple[int, bytes]]:
    for match in re.finditer(rb"(?=\x04\x20(.{32}))", piece, re.DOTALL):
        yield match.start(), match[1]
    for match in HEXADECIMAL.finditer(piece):
        yield match.start(), bytes.fromhex(match[0].decode())
    for match in BASE64.finditer(piece):
        text = match[0].rstrip(b"=")
        decoded = base64.b64decode(text + b"=" * (-len(text) % 4) if len(text) % 4 != 1 else b"")
        if len(decoded) == 32:
            yield match.start(), decoded
        else:
            yield from ((match.start(), inner[1]) for inner in SCALAR.finditer(decoded))


def _public(scalar: bytes) -> bytes:
    value = int.from_bytes(scalar, "big")
    if not 0 < value < ORDER:
        return b""
    return point_of(ec.derive_private_key(value, ec.SECP256R1()).public_key())


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public half as certificates have it."""
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def writable_memory(pid: int) -> Iterator[bytes]:
    """What a process may write, in pieces that overlap by more than a key; needs the right to trace it."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_, name = (
                line.split(maxsplit=5) if line.count(" ") > 5 else (*line.split(), "")
            )
            if not rights.startswith("rw") or name.strip() in ("[vvar]", "[vsyscall]"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            for at in range(start, end, PIECE):
                memory.seek(at)
                try:
                    yield memory.read(min(PIECE + 256, end - at))
                except OSError:
                    break  # not backed by anything
