"""Istio's protobuf: what a real istiod sent, and the list BI-X around a small workload, service and policy."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import Seeds

VECTORS = Path(__file__).parents[2] / "vectors" / "istiod"
ADDRESS, POLICY = b"A", b"P"


def decode() -> Seeds:
    """Recorded resources, one and many, then odd ones."""
    recorded = list(resources())
    for number, (kind, value) in enumerate(recorded):
        yield f"istiod_{number:02}", one(kind, value)
    yield "istiod_all", b"".join(one(kind, value) for kind, value in recorded)[:4096]
    for name, value in workloads().items():
        yield f"workload_{name}", one(ADDRESS, text(1, value))
    for name, value in services().items():
        yield f"service_{name}", one(ADDRESS, text(2, value))
    for name, value in policies().items():
        yield f"policy_{name}", one(POLICY, value)
    pod = text(1, WORKLOAD)
    yield "twice", one(ADDRESS, pod) * 2
    yield "both", one(ADDRESS, text(1, WORKLOAD + SERVES)) + one(ADDRESS, text(2, SERVICE))
    yield "neither", one(ADDRESS, b"")
    yield "cut_varint", one(ADDRESS, b"\x0a\x80")
    yield "cut_text", one(ADDRESS, b"\x0a\x7f\x00")
    yield "wire_type", one(ADDRESS, b"\x08\x01")
    yield "field_0", one(ADDRESS, b"\x02\x00")
    yield "group_open", one(ADDRESS, b"\x1b\x08\x01")
    yield "groups_deep", one(ADDRESS, b"\x1b" * 200)


def one(kind: bytes, value: bytes) -> bytes:
    """A resource as the target reads it."""
    return kind + len(value).to_bytes(2, "big") + value


def varint(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """A field that is a text, bytes or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def address(ip: bytes, length: int | None = None, network: bytes = b"") -> bytes:
    """A `NetworkAddress`."""
    return text(1, network) + text(2, ip) + (b"" if length is None else number(3, length))


def ports(service: int, target: int) -> bytes:
    """A `Port`."""
    return number(1, service) + number(2, target)


def serves(key: bytes, service: int = 80, target: int = 8080) -> bytes:
    """An entry of `Workload.services`."""
    return text(22, text(1, key) + text(2, text(1, ports(service, target))))


IP = b"\x0a\x00\x00\x07"
MAPPED = bytes(10) + b"\xff\xff" + IP
GATEWAY = text(2, address(IP)) + number(3, 15008)
BY_NAME = text(1, text(1, b"ns") + text(2, b"h")) + number(3, 15008)
WORKLOAD = text(20, b"cluster//Pod/ns/a") + text(2, b"ns") + text(3, IP)
SERVES = serves(b"ns/h")
SERVICE = text(1, b"s") + text(2, b"ns") + text(3, b"h") + text(4, address(IP))


def workloads() -> dict[str, bytes]:
    """`Workload` messages."""
    return {
        "address_3": WORKLOAD + text(3, IP[:3]),
        "address_5": WORKLOAD + text(3, IP + b"\x00"),
        "address_17": WORKLOAD + text(3, MAPPED + b"\x00"),
        "address_mapped": WORKLOAD + text(3, MAPPED),
        "address_none": text(20, b"u") + text(2, b"ns"),
        "capacity_0": WORKLOAD + text(27, number(1, 0)),
        "enumeration_unknown": WORKLOAD + number(5, 2) + number(17, 9) + number(25, 9),
        "enumeration_negative": WORKLOAD + number(12, 2**64 - 1) + number(5, 2**64 - 1),
        "everything": WORKLOAD
        + b"".join(text(n, b"x") for n in (1, 4, 6, 7, 9, 10, 11, 13, 16, 18, 21))
        + b"".join(number(n, 1) for n in (5, 12, 14, 17, 25))
        + text(8, GATEWAY)
        + text(19, BY_NAME)
        + text(23, number(1, 1) + number(2, 15088))
        + text(24, text(1, b"r") + text(2, b"z") + text(3, b"s"))
        + text(27, number(1, 3))
        + SERVES,
        "extension": WORKLOAD + text(26, text(1, b"e") + text(2, text(1, b"t") + text(2, b"v"))),
        "field_unknown": WORKLOAD + text(100, b"x") + number(101, 1),
        "gateway_nowhere": WORKLOAD + text(8, number(3, 1)) + text(19, b""),
        "key_without_slash": WORKLOAD + serves(b"h") + serves(b"/h") + serves(b"a/b/c"),
        "map_key_twice": WORKLOAD + SERVES + serves(b"ns/h", 81),
        "map_value_none": WORKLOAD + text(22, text(1, b"ns/h")),
        "no_uid": text(2, b"ns"),
        "not_utf8": WORKLOAD + text(1, b"\xff\xfe"),
        "port_0": WORKLOAD + serves(b"ns/h", 0, 0),
        "port_65616": WORKLOAD
        + serves(b"ns/h", 65616, 65616)
        + text(8, GATEWAY + number(3, 65616)),
        "repeated": WORKLOAD + text(16, b"") * 500,
        "trust_domain": WORKLOAD + text(6, b"TD") + text(7, b"a/b"),
        "tunnel_port_0": WORKLOAD + text(23, number(1, 0) + number(2, 0)),
        "waypoint_without_tunnel": WORKLOAD + number(5, 0) + text(8, BY_NAME),
    }


def services() -> dict[str, bytes]:
    """`Service` messages."""
    return {
        "block": SERVICE + text(4, address(IP, 8)) + text(4, address(IP, 0)),
        "block_33": SERVICE + text(4, address(IP, 33)) + text(4, address(MAPPED, 300)),
        "block_mapped": SERVICE + text(4, address(MAPPED, 120)) + text(4, address(MAPPED, 128)),
        "everything": SERVICE
        + text(5, ports(80, 0))
        + text(6, b"spiffe://td/ns/a/sa/b")
        + text(7, GATEWAY)
        + text(8, text(1, b"\x01\x02\x06") + number(2, 2) + number(3, 1))
        + number(9, 3)
        + number(11, 1)
        + number(12, 1)
        + text(13, text(1, BY_NAME) + number(2, 7))
        + number(14, 1),
        "families_unknown": SERVICE + number(9, 4) + number(14, 7),
        "network_with_slash": SERVICE + text(4, address(IP, None, b"a/b")),
        "no_address": text(2, b"ns") + text(3, b"h"),
        "no_name": text(3, b""),
        "scope_unknown": SERVICE
        + text(8, number(1, 0) + number(1, 7) + number(2, 4) + number(3, 2)),
        "waypoint_itself": SERVICE + text(7, BY_NAME),
        "waypoint_missing": SERVICE + text(13, number(2, 1)) + text(7, b""),
    }


def policies() -> dict[str, bytes]:
    """`Authorization` messages."""
    named = text(1, b"p") + text(2, b"ns")
    string = text(1, b"cluster.local/ns/a/sa/b")

    def matching(match: bytes) -> bytes:
        return named + text(5, text(1, text(2, match)))

    block = text(1, IP) + number(2, 8)
    return {
        "account": matching(text(11, text(1, b"a") + text(2, b"b")) + text(12, text(1, b"a"))),
        "action_unknown": named + number(4, 2),
        "block_33": matching(text(5, text(1, IP) + number(2, 33)) + text(6, block)),
        "clause_empty": named + text(5, text(1, b"")) + text(5, b""),
        "deny_broken": named + number(4, 1) + text(5, b"\x0a\x05"),
        "everything": matching(
            b"".join(text(n, string) for n in (1, 2, 3, 4))
            + b"".join(text(n, block) for n in (5, 6, 7, 8))
            + text(9, b"\x50\xbb\x03")
            + number(10, 80)
        )
        + number(3, 2)
        + number(4, 1)
        + number(6, 1),
        "extension": named + text(7, text(1, b"e")) + matching(text(13, text(1, b"e"))),
        "match_broken": matching(b"\x08\x01"),
        "name_with_slash": text(1, b"a/b") + text(2, b"ns"),
        "port_65616": matching(number(9, 65616) + text(10, varint(65616))),
        "rules_many": named + text(5, text(1, text(2, number(9, 80)))) * 200,
        "scope_unknown": named + number(3, 3),
        "string_empty": matching(text(3, text(2, b"")) + text(4, text(4, b""))),
        "string_none": matching(text(3, b"") + text(4, b"")),
    }


def resources() -> Iterator[tuple[bytes, bytes]]:
    """What the recordings hold, each once."""
    seen = set()
    for path in sorted(VECTORS.glob("delta-*.jsonl")):
        for line in path.read_text().splitlines():
            if raw := json.loads(line).get("response"):
                response = base64.b64decode(raw)
                url = next(value for field, value in fields(response) if field == 4)
                kind = ADDRESS if url.endswith(b"Address") else POLICY
                for resource in (value for field, value in fields(response) if field == 2):
                    wrapped = next(value for field, value in fields(resource) if field == 2)
                    value = next((value for field, value in fields(wrapped) if field == 2), b"")
                    if value not in seen:
                        seen.add(value)
                        yield kind, value


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The texts, bytes and messages of a message that has nothing else."""
    rest = memoryview(message)

    def read() -> int:
        nonlocal rest
        value = shift = 0
        while rest[0] & 0x80:
            value |= (rest[0] & 0x7F) << shift
            rest, shift = rest[1:], shift + 7
        value |= rest[0] << shift
        rest = rest[1:]
        return value

    while rest:
        key, length = read(), read()
        assert key & 7 == 2, "a recorded response has texts and messages only"
        yield key >> 3, bytes(rest[:length])
        rest = rest[length:]
