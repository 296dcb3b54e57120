"""Frames as bytes."""

from __future__ import annotations

import struct

from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, WindowUpdateFrame

from .blocks import Fields, block


def wire(frame: Frame) -> bytes:
    """As hyperframe writes it."""
    octets: bytes = frame.serialize()
    return octets


def raw(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """Any frame at all."""
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(
    fields: Fields,
    stream: int = 1,
    *,
    end: bool = False,
    ends: bool = True,
    split: int | None = None,
    continued_on: int | None = None,
) -> bytes:
    """HEADERS and, where it is split, CONTINUATION."""
    octets = block(fields)
    flags = ["END_STREAM"] if end else []
    if split is None:
        return wire(HeadersFrame(stream, octets, flags=[*flags, "END_HEADERS"] if ends else flags))
    rest = ContinuationFrame(continued_on or stream, octets[split:], flags=["END_HEADERS"])
    return wire(HeadersFrame(stream, octets[:split], flags=flags)) + wire(rest)


def opened_window(stream: int) -> bytes:
    """Room for 1000 bytes."""
    return wire(WindowUpdateFrame(stream, window_increment=1000))
