"""`envoy.service.discovery.v3`: what delta ADS needs of it (spec/control.md §6.5).

Requests are encoded here and answers are not decoded: those go to the data plane as they came. What servers
need, the counterpart of both, stands here too, for the authorities and control planes of `ztunnel.testing`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ztunnel.wire.protobuf import NotProtobuf, bytes_field, fields, text_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ztunnel.document.checks import Json

DELTA_RESOURCES = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
# A Struct may hold a Struct. Nobody's metadata is as deep, and a reader must end somewhere.
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WireNode:
    """`Node`: who asks."""

    id: str
    metadata: tuple[tuple[str, Json], ...] = ()

    def encode(self) -> bytes:
        """As the wire has it."""
        body = text_field(1, self.id)
        return body + (bytes_field(3, _struct(dict(self.metadata))) if self.metadata else b"")

    @classmethod
    def decode(cls, message: bytes) -> WireNode:
        """The counterpart; `NotProtobuf`."""
        name, metadata = "", dict[str, "Json"]()
        for number, value in fields(message):
            match number, value:
                case 1, bytes():
                    name = _text(value)
                case 3, bytes():
                    metadata |= _read_struct(value, 0)
                case _:
                    pass
        return cls(id=name, metadata=tuple(metadata.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRequest:
    """`DeltaDiscoveryRequest`; without a nonce it is no answer to anything."""

    type_url: str
    node: WireNode | None = None
    subscribe: Sequence[str] = ()
    unsubscribe: Sequence[str] = ()
    initial_versions: Sequence[tuple[str, str]] = ()
    nonce: str = ""
    error: str | None = None
    """Why the answer with this nonce was refused."""

    def encode(self) -> bytes:
        """As the wire has it."""
        parts = [bytes_field(1, self.node.encode())] if self.node is not None else []
        parts.append(text_field(2, self.type_url))
        parts += [bytes_field(3, name.encode()) for name in self.subscribe]
        parts += [bytes_field(4, name.encode()) for name in self.unsubscribe]
        parts += [bytes_field(5, _pair(name, version)) for name, version in self.initial_versions]
        parts.append(text_field(6, self.nonce))
        if self.error is not None:
            # google.rpc.Status; the code stays 0, as upstream's.
            parts.append(bytes_field(7, text_field(2, self.error)))
        return b"".join(parts)

    @classmethod
    def decode(cls, message: bytes) -> DeltaRequest:
        """The counterpart; `NotProtobuf`."""
        found = _Request()
        for number, value in fields(message):
            if isinstance(value, bytes):
                found.take(number, value)
        return cls(
            type_url=found.type_url,
            node=found.node,
            subscribe=tuple(found.subscribe),
            unsubscribe=tuple(found.unsubscribe),
            initial_versions=tuple(found.versions.items()),
            nonce=found.nonce,
            error=found.error,
        )


@dataclass(slots=True)
class _Request:
    """A request that is being read."""

    type_url: str = ""
    node: WireNode | None = None
    subscribe: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str | None = None

    def take(self, number: int, value: bytes) -> None:
        match number:
            case 1:
                self.node = WireNode.decode(value)
            case 2:
                self.type_url = _text(value)
            case 3:
                self.subscribe.append(_text(value))
            case 4:
                self.unsubscribe.append(_text(value))
            case 5:
                entry = {n: v for n, v in fields(value) if isinstance(v, bytes)}
                self.versions[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
            case 6:
                self.nonce = _text(value)
            case 7:
                status = {n: v for n, v in fields(value) if isinstance(v, bytes)}
                self.error = _text(status.get(2, b""))
            case _:
                pass


@dataclass(frozen=True, slots=True, kw_only=True)
class WireResource:
    """`Resource` with its payload, an `Any`."""

    name: str
    version: str = ""
    aliases: tuple[str, ...] = ()
    type_url: str = ""
    """Of the payload."""
    value: bytes | None = None
    """None: there is no payload, which is a mistake of the sender's."""

    def encode(self) -> bytes:
        """As the wire has it."""
        body = text_field(1, self.version)
        if self.value is not None:
            payload = text_field(1, self.type_url) + (
                bytes_field(2, self.value) if self.value else b""
            )
            body += bytes_field(2, payload)
        body += text_field(3, self.name)
        return body + b"".join(bytes_field(4, alias.encode()) for alias in self.aliases)

    @classmethod
    def decode(cls, message: bytes) -> WireResource:
        """The counterpart; `NotProtobuf`."""
        texts = {1: "", 3: ""}
        aliases: list[str] = []
        type_url, value = "", None
        for number, each in fields(message):
            if not isinstance(each, bytes):
                continue
            if number == 2:
                payload = {n: v for n, v in fields(each) if isinstance(v, bytes)}
                type_url, value = _text(payload.get(1, b"")), payload.get(2, b"")
            elif number == 4:
                aliases.append(_text(each))
            elif number in texts:
                texts[number] = _text(each)
        return cls(
            name=texts[3], version=texts[1], aliases=tuple(aliases), type_url=type_url, value=value
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WireResponse:
    """`DeltaDiscoveryResponse`, for whoever sends one; a reader of large ones leaves them to the data plane."""

    type_url: str
    nonce: str
    resources: Sequence[WireResource] = ()
    removed: Sequence[str] = ()
    version: str = ""
    """`system_version_info`, which means nothing to a client."""

    def encode(self) -> bytes:
        """As the wire has it."""
        parts = [text_field(1, self.version)]
        parts += [bytes_field(2, resource.encode()) for resource in self.resources]
        parts.append(text_field(4, self.type_url) + text_field(5, self.nonce))
        parts += [bytes_field(6, name.encode()) for name in self.removed]
        return b"".join(parts)

    @classmethod
    def decode(cls, message: bytes) -> WireResponse:
        """The counterpart, whole; `NotProtobuf`."""
        texts = {1: "", 4: "", 5: ""}
        resources: list[WireResource] = []
        removed: list[str] = []
        for number, value in fields(message):
            if not isinstance(value, bytes):
                continue
            if number == 2:
                resources.append(WireResource.decode(value))
            elif number == 6:
                removed.append(_text(value))
            elif number in texts:
                texts[number] = _text(value)
        return cls(
            type_url=texts[4],
            nonce=texts[5],
            resources=tuple(resources),
            removed=tuple(removed),
            version=texts[1],
        )


def _pair(key: str, value: str) -> bytes:
    """An entry of a `map<string, string>`; both are written even if empty, as every implementation does."""
    return bytes_field(1, key.encode()) + bytes_field(2, value.encode())


def _struct(members: Mapping[str, Json]) -> bytes:
    """`google.protobuf.Struct`."""
    return b"".join(
        bytes_field(1, bytes_field(1, key.encode()) + bytes_field(2, _value(value)))
        for key, value in members.items()
    )


def _value(value: Json) -> bytes:
    """`google.protobuf.Value`: the member of the oneof is written even if it is the default."""
    match value:
        case None:
            return b"\x08\x00"
        case bool():
            return b"\x20\x01" if value else b"\x20\x00"
        case int() | float():
            return b"\x11" + struct.pack("<d", _double(value))
        case str():
            return bytes_field(3, value.encode())
        case dict():
            return bytes_field(5, _struct(value))
        case _:
            return bytes_field(6, b"".join(bytes_field(1, _value(each)) for each in value))


def _double(number: float) -> float:
    """An integer beyond a double's range is as large as there is; JSON has no bound on them."""
    try:
        return float(number)
    except OverflowError:
        # Not `copysign`, which would make a double of it first.
        return math.inf if number > 0 else -math.inf


def _read_struct(message: bytes, depth: int) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for number, entry in fields(message):
        if number == 1 and isinstance(entry, bytes):
            parts = {n: v for n, v in fields(entry) if isinstance(v, bytes)}
            found[_text(parts.get(1, b""))] = _read_value(parts.get(2, b""), depth)
    return found


def _read_value(message: bytes, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise NotProtobuf(f"values more than {MAX_DEPTH} deep")
    found: Json = None
    for number, value in fields(message):
        match number, value:
            case 2, bytes():
                found = _number(value)
            case 3, bytes():
                found = _text(value)
            case 4, int():
                found = bool(value)
            case 5, bytes():
                found = _read_struct(value, depth + 1)
            case 6, bytes():
                found = [
                    _read_value(each, depth + 1)
                    for n, each in fields(value)
                    if n == 1 and isinstance(each, bytes)
                ]
            case _:
                pass
    return found


def _number(value: bytes) -> float:
    if len(value) != 8:
        raise NotProtobuf("a double that has not eight bytes")
    (number,) = struct.unpack("<d", value)
    return float(number)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NotProtobuf("a text that is not UTF-8") from None
