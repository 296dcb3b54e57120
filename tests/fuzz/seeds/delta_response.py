"""Answers of delta ADS: what a real istiod sent, and the envelope's part of the list BI-X."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from .decode import VECTORS, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import Seeds

ADDRESS = b"type.googleapis.com/istio.workload.Address"
# The largest message that a seed of 4096 bytes holds behind its length.
LARGEST = 4094


def delta_response() -> Seeds:
    """Recorded answers, then odd ones."""
    for name in ("session", "resume", "on-demand", "nack"):
        for step, message in enumerate(recorded(f"delta-{name}.jsonl")):
            yield f"istiod_{name}_{step:02}", one(message[:LARGEST])
    whole = [one(message) for message in recorded("delta-session.jsonl") if len(message) < 1000]
    yield "istiod_session", b"".join(whole)[:4096]
    for name, message in odd().items():
        yield name, one(message)
    come, go = answer(resource(b"a", b"0123456789abcdef")), answer(text(6, b"a"))
    yield (
        "comes_changes_goes",
        b"".join(map(one, (come, answer(resource(b"a", b"fedcba9876543210")), go, come))),
    )
    yield (
        "versions_of_every_kind",
        b"".join(
            one(answer(resource(b"a", version)))
            for version in (b"", b"1", b"0123456789abcdef", b"0123456789ABCDEF", b"v" * 200)
        ),
    )


def odd() -> dict[str, bytes]:
    """By what is odd."""
    good = resource(b"uid", b"1")
    return {
        "empty": b"",
        "unknown_type": text(2, good) + text(4, b"type.googleapis.com/unknown"),
        "no_type": text(2, good),
        "no_payload": answer(text(2, text(3, b"uid"))),
        "no_name": answer(text(2, text(2, text(2, b"x")))),
        "twice": answer(good, good),
        "comes_and_goes": answer(good, text(6, b"uid")),
        "aliases": answer(text(2, text(3, b"uid") + text(4, b"/10.0.0.1") + text(4, b"n/h"))),
        "two_payloads": answer(text(2, text(2, text(2, b"x")) + text(2, b"") + text(3, b"uid"))),
        "star": answer(resource(b"*", b"1"), text(6, b"*")),
        "unknown_fields": answer(number(99, 7), text(98, b"x"), b"\x89\x06" + bytes(8)),
        "number_for_a_text": answer(number(2, 1), number(5, 2), b"\x35...."),
        "cut_varint": answer(b"\x12\x80"),
        "long_varint": b"\xff" * 11,
        "length_past_the_end": b"\x12\xff\xff\xff\xff\x0f",
        "length_that_wraps": b"\x12" + b"\xff" * 9 + b"\x01",
        "group": b"\x13\x14",
        "groups_deep": b"\x13" * 200,
        "wire_type_7": b"\x17",
        "field_0": b"\x02\x00",
        "name_not_utf8": answer(text(2, text(3, b"\xff"))),
        "removed_not_utf8": answer(text(6, b"a\xc3")),
        "payload_type_not_utf8": answer(text(2, text(2, text(1, b"\xed\xa0\x80")))),
        "many": answer(*[resource(b"%d" % n, b"%016x" % n) for n in range(50)]),
        "many_gone": answer(*[text(6, b"%d" % n) for n in range(200)]),
    }


def answer(*parts: bytes) -> bytes:
    """An answer with these fields."""
    return b"".join(parts) + text(4, ADDRESS) + text(5, b"n")


def resource(name: bytes, version: bytes) -> bytes:
    """A field with a resource that is no address."""
    return text(2, text(1, version) + text(2, text(1, ADDRESS) + text(2, b"x")) + text(3, name))


def one(message: bytes) -> bytes:
    """A message as the target reads it."""
    return len(message).to_bytes(2, "big") + message


def recorded(name: str) -> Iterator[bytes]:
    """What istiod said, message by message."""
    for line in (VECTORS / name).read_text().splitlines():
        step = json.loads(line)
        if "response" in step:
            yield base64.b64decode(step["response"])
