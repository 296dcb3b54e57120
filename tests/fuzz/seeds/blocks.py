"""Header blocks: those of a tunnel, and those that nobody may accept (BI-F)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpack import Encoder

if TYPE_CHECKING:
    from . import Seeds

Fields = Sequence[tuple[str, str]]

BAGGAGE = (
    "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=web-api,"
    "service.name=web,service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1"
)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
CONNECT: Fields = [(":method", "CONNECT"), (":authority", "10.0.0.7:8080")]
HBONE: Fields = [
    *CONNECT,
    ("baggage", BAGGAGE),
    ("forwarded", 'for="10.0.1.2:40000";host=web.default.svc.cluster.local'),
    ("traceparent", TRACEPARENT),
]


def block(fields: Fields) -> bytes:
    """A header block that leaves nothing in the table, so that it can stand anywhere."""
    encoder = Encoder()
    encoder.header_table_size = 0
    octets: bytes = encoder.encode(list(fields))
    return octets


def bad_blocks() -> Seeds:
    """Blocks that nobody may accept, or that are at the edge of it."""
    yield "huffman_eos", bytes.fromhex("00016184ffffffff")
    yield "huffman_padding_long", bytes.fromhex("00016181ff")
    yield "huffman_padding_zero", bytes.fromhex("0001618100")
    yield "index_zero", b"\x80"
    yield "index_out_of_range", b"\xbe"
    yield "index_out_of_range_name", bytes.fromhex("7e0161")
    yield "integer_long", bytes.fromhex("ff808080808000")
    yield "integer_overflow", bytes.fromhex("ffffffffffff7f")
    yield "string_longer_than_block", bytes.fromhex("00017f7f616161")
    yield "truncated", bytes.fromhex("4001")
    yield "update_in_the_middle", bytes.fromhex("8220")
    yield "update_thrice", bytes.fromhex("202020")
    yield "update_too_large", bytes.fromhex("3fe21f")
    yield "updates_two", bytes.fromhex("203fe11f82")
