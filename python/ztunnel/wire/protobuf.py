"""The protobuf wire format, as far as a handful of small messages need it: two wire types out, all in.

Written out instead of generated: importing `google.protobuf` costs 3 MiB resident and 10 ms of a node's
start, for messages of one to three fields. `citadel.py` says which field means what; the tests compare
both ways with `google.protobuf`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
# A varint of 64 bits takes ten bytes (protobuf encoding, "Base 128 Varints").
MAX_VARINT = 10


class NotProtobuf(ValueError):
    """The bytes are not a protobuf message."""


def integer_field(number: int, value: int) -> bytes:
    """An `int64` field; zero is left out, as proto3 does."""
    if value == 0:
        return b""
    return _varint(number << 3 | VARINT) + _varint(value & (1 << 64) - 1)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field with a length: bytes, a text in UTF-8, a message. Written even if empty."""
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(value)) + value


def packed_field(number: int, values: Iterable[int]) -> bytes:
    """A repeated field of integers; left out if there are none."""
    body = b"".join(_varint(value & (1 << 64) - 1) for value in values)
    return bytes_field(number, body) if body else b""


def text_field(number: int, value: str) -> bytes:
    """A `string` field; the empty one is left out, as proto3 does."""
    return bytes_field(number, value.encode()) if value else b""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each field of a message in order: its number with its integer or its bytes; `NotProtobuf`."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise NotProtobuf("a field of number 0")
        if wire_type == VARINT:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if wire_type == LENGTH_DELIMITED:
            length, at = _read_varint(message, at)
        elif wire_type in (FIXED64, FIXED32):
            length = 8 if wire_type == FIXED64 else 4
        else:
            raise NotProtobuf(f"a wire type that nobody knows: {wire_type}")
        if length > len(message) - at:
            raise NotProtobuf(f"field {number} ends after the message")
        yield number, message[at : at + length]
        at += length


def _varint(value: int) -> bytes:
    if value <= 0x7F:
        # Nearly all of them are: keys, and lengths of names. A first request has four for each name that is held.
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT):
        if at + index >= len(message):
            raise NotProtobuf("ends within a number")
        byte = message[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & (1 << 64) - 1, at + index + 1
    raise NotProtobuf("a number of more than 64 bits")
