"""Blocks behind their lengths."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hpack import Encoder

from .blocks import BAGGAGE, CONNECT, HBONE, bad_blocks, block

if TYPE_CHECKING:
    from . import Seeds


def hpack() -> Seeds:
    """Conversations of the appendix, ours, and blocks that must be refused (BI-F)."""
    appendix = {
        "c3": ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865"],
        "c4": ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf"],
        "c6": [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff",
            "4883640effc1c0bf",
        ],
    }
    for name, texts in appendix.items():
        yield f"appendix_{name}", b"".join(sized(bytes.fromhex(text)) for text in texts)
    for size in [0, 40, 200, 4096]:
        encoder = Encoder()
        blocks: list[bytes] = [encoder.encode(list(HBONE)) for _ in range(3)]
        encoder.header_table_size = size
        blocks += [encoder.encode([(":status", "200"), ("baggage", BAGGAGE)]) for _ in range(2)]
        yield (
            f"table_{size}",
            b"".join([*map(sized, blocks[:3]), table(size), *map(sized, blocks[3:])]),
        )
    encoder = Encoder()
    yield "table_full", sized(encoder.encode([(f"name{n}", "x" * 50) for n in range(60)]))
    first = sized(encoder.encode([("bomb", "x" * 2000)]))
    yield "bomb", first + sized(b"\xbe" * 500) + sized(b"\xbe\x82")
    yield "huffman_all", sized(Encoder().encode([("a", bytes(range(256)))]))
    yield "plain_all", sized(Encoder().encode([("a", bytes(range(256)))], huffman=False))
    for name, content in bad_blocks():
        yield name, sized(block(CONNECT)) + sized(content)


def sized(octets: bytes) -> bytes:
    """One block of the conversation."""
    return struct.pack(">H", len(octets)) + octets


def table(size: int) -> bytes:
    """A new table size in the conversation."""
    return struct.pack(">H", 0xF000 + size // 2)
