"""The messages of delta ADS against `google.protobuf`, and against what a real istiod and its client said."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    struct_pb2,
)
from hypothesis import given
from hypothesis import strategies as st

from ztunnel.wire.discovery import (
    MAX_DEPTH,
    DeltaRequest,
    WireNode,
    WireResource,
    WireResponse,
)
from ztunnel.wire.protobuf import NotProtobuf, bytes_field

CONVERSATIONS = Path(__file__).parents[2] / "vectors" / "istiod" / "conversations"
TYPE_URL = "type.googleapis.com/istio.workload.Address"

# Message: its fields, each a name, a number and a type; `*` before a type is a list of it.
SCHEMA: dict[str, list[tuple[str, int, str]]] = {
    "Node": [("id", 1, "string"), ("metadata", 3, "google.protobuf.Struct")],
    "Status": [("code", 1, "int32"), ("message", 2, "string")],
    "Resource": [
        ("version", 1, "string"),
        ("resource", 2, "google.protobuf.Any"),
        ("name", 3, "string"),
        ("aliases", 4, "*string"),
    ],
    "VersionsEntry": [("key", 1, "string"), ("value", 2, "string")],
    "DeltaDiscoveryRequest": [
        ("node", 1, "Node"),
        ("type_url", 2, "string"),
        ("resource_names_subscribe", 3, "*string"),
        ("resource_names_unsubscribe", 4, "*string"),
        # A map is a list of such entries (protobuf's language guide, "Maps").
        ("initial_resource_versions", 5, "*VersionsEntry"),
        ("response_nonce", 6, "string"),
        ("error_detail", 7, "Status"),
    ],
    "DeltaDiscoveryResponse": [
        ("system_version_info", 1, "string"),
        ("resources", 2, "*Resource"),
        ("type_url", 4, "string"),
        ("nonce", 5, "string"),
        ("removed_resources", 6, "*string"),
    ],
}


def oracle() -> dict[str, Any]:
    """The messages as `google.protobuf` knows them, from the numbers in spec/control.md §6.5."""
    file = descriptor_pb2.FileDescriptorProto(
        name="discovery_for_tests.proto",
        package="discovery_for_tests",
        syntax="proto3",
        dependency=["google/protobuf/struct.proto", "google/protobuf/any.proto"],
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": kinds.TYPE_STRING, "int32": kinds.TYPE_INT32}
    for message, members in SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, number, written in members:
            kind = written.removeprefix("*")
            field = made.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if written != kind else kinds.LABEL_OPTIONAL
            field.type = scalars.get(kind, kinds.TYPE_MESSAGE)
            if kind not in scalars:
                field.type_name = f".{kind}" if "." in kind else f".discovery_for_tests.{kind}"
    # Whose files the pool knows once they are imported.
    assert [m.DESCRIPTOR.file.name for m in (struct_pb2.Struct, any_pb2.Any)] == file.dependency
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"discovery_for_tests.{name}")
        )
        for name in SCHEMA
    }


THEIRS = oracle()

TEXTS = st.text(max_size=12)
# Numbers are doubles on the wire, whatever JSON they came from.
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
LISTS = st.lists(SCALARS | st.dictionaries(TEXTS, SCALARS, max_size=2), max_size=3)
VALUES = SCALARS | LISTS | st.dictionaries(TEXTS, SCALARS | LISTS, max_size=2)
NODES = st.builds(
    WireNode,
    id=TEXTS,
    metadata=st.dictionaries(TEXTS, VALUES, max_size=3).map(lambda found: tuple(found.items())),
)
NAMES = st.lists(TEXTS, max_size=4).map(tuple)
REQUESTS = st.builds(
    DeltaRequest,
    type_url=TEXTS,
    node=st.none() | NODES,
    subscribe=NAMES,
    unsubscribe=NAMES,
    initial_versions=st.dictionaries(TEXTS, TEXTS, max_size=4).map(
        lambda found: tuple(found.items())
    ),
    nonce=TEXTS,
    error=st.none() | TEXTS,
)
RESOURCES = st.builds(
    WireResource, name=TEXTS, version=TEXTS, aliases=NAMES, value=st.none()
) | st.builds(
    WireResource,
    name=TEXTS,
    version=TEXTS,
    aliases=NAMES,
    type_url=TEXTS,
    value=st.binary(max_size=32),
)
RESPONSES = st.builds(
    WireResponse,
    type_url=TEXTS,
    nonce=TEXTS,
    resources=st.lists(RESOURCES, max_size=4).map(tuple),
    removed=NAMES,
    version=TEXTS,
)


def their_request(ours: DeltaRequest) -> Any:
    theirs = THEIRS["DeltaDiscoveryRequest"](
        type_url=ours.type_url,
        resource_names_subscribe=ours.subscribe,
        resource_names_unsubscribe=ours.unsubscribe,
        response_nonce=ours.nonce,
    )
    for name, version in ours.initial_versions:
        entry = theirs.initial_resource_versions.add()
        entry.key, entry.value = name, version
    if ours.node is not None:
        theirs.node.SetInParent()
        theirs.node.id = ours.node.id
        if ours.node.metadata:
            json_format.ParseDict(dict(ours.node.metadata), theirs.node.metadata)
    if ours.error is not None:
        theirs.error_detail.SetInParent()
        theirs.error_detail.message = ours.error
    return theirs


def their_response(ours: WireResponse) -> Any:
    theirs = THEIRS["DeltaDiscoveryResponse"](
        type_url=ours.type_url,
        nonce=ours.nonce,
        system_version_info=ours.version,
        removed_resources=ours.removed,
    )
    for each in ours.resources:
        made = theirs.resources.add(name=each.name, version=each.version, aliases=each.aliases)
        if each.value is not None:
            made.resource.SetInParent()
            made.resource.type_url, made.resource.value = each.type_url, each.value
    return theirs


@given(REQUESTS)
def test_a_request_is_what_protobuf_reads_and_writes(ours: DeltaRequest) -> None:
    theirs = their_request(ours)
    read = THEIRS["DeltaDiscoveryRequest"].FromString(ours.encode())
    # Entries of a map without a key or a value are written out by us and by nobody for a list: bytes may differ.
    assert read == theirs
    assert ordered(DeltaRequest.decode(theirs.SerializeToString())) == ordered(ours)
    assert DeltaRequest.decode(ours.encode()) == ours


def ordered(request: DeltaRequest) -> DeltaRequest:
    """The metadata by name: a map has no order, and `google.protobuf` writes it in any."""
    if request.node is None:
        return request
    metadata = tuple(sorted(request.node.metadata, key=lambda entry: entry[0]))
    return dataclasses.replace(request, node=dataclasses.replace(request.node, metadata=metadata))


@given(RESPONSES)
def test_a_response_has_the_bytes_that_protobuf_writes(ours: WireResponse) -> None:
    written = their_response(ours).SerializeToString(deterministic=True)
    assert ours.encode() == written
    assert WireResponse.decode(written) == ours


def recorded(direction: str) -> list[bytes]:
    return [
        base64.b64decode(said["raw"])
        for path in sorted(CONVERSATIONS.glob("*.jsonl"))
        for line in path.read_text().splitlines()
        if (said := json.loads(line))["dir"] == direction
    ]


def test_every_recorded_response_survives_both_ways_byte_by_byte() -> None:
    messages = recorded("from istiod")
    assert len(messages) > 20
    for raw in messages:
        response = WireResponse.decode(raw)
        assert response.encode() == raw
        assert their_response(response).SerializeToString() == raw


def test_every_recorded_request_survives_both_ways_byte_by_byte() -> None:
    messages = recorded("to istiod")
    assert len(messages) > 30
    for raw in messages:
        request = DeltaRequest.decode(raw)
        assert request.encode() == raw
        assert THEIRS["DeltaDiscoveryRequest"].FromString(raw) == their_request(request)


def test_an_integer_larger_than_any_double_is_infinite() -> None:
    node = WireNode(id="x", metadata=(("huge", 10**400), ("low", -(10**400))))
    assert dict(WireNode.decode(node.encode()).metadata) == {"huge": math.inf, "low": -math.inf}


def test_the_last_of_two_values_counts_as_in_protobuf() -> None:
    first, second = (DeltaRequest(type_url=url, nonce=url) for url in ("a", "b"))
    both = first.encode() + second.encode()
    theirs = THEIRS["DeltaDiscoveryRequest"].FromString(both)
    ours = DeltaRequest.decode(both)
    assert (ours.type_url, ours.nonce) == (theirs.type_url, theirs.response_nonce) == ("b", "b")


def test_fields_that_nobody_knows_are_passed_over() -> None:
    # 200 in each wire type, and `type_url` as a number, which is not ours either.
    unknown = b"\xc0\x0c\x05" + b"\xc1\x0c" + bytes(8) + b"\xc2\x0c\x01x" + b"\xc5\x0c" + bytes(4)
    request = DeltaRequest(type_url=TYPE_URL, node=WireNode(id="x"))
    assert DeltaRequest.decode(unknown + request.encode() + b"\x10\x01") == request
    response = WireResponse(type_url=TYPE_URL, nonce="1", removed=("gone",))
    assert WireResponse.decode(unknown + response.encode() + b"\x20\x01") == response


def test_metadata_ends_before_the_stack_does() -> None:
    value = b"\x08\x00"
    for _ in range(MAX_DEPTH + 2):
        value = bytes_field(6, bytes_field(1, value))
    entry = bytes_field(1, bytes_field(1, b"k") + bytes_field(2, value))
    with pytest.raises(NotProtobuf, match="deep"):
        WireNode.decode(bytes_field(3, entry))


@pytest.mark.parametrize(
    "message",
    [
        b"\x12",  # a key without its length
        b"\x12\x05abc",  # shorter than it says
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # longer than anything
        b"\x80" * 11,  # a number that does not end
        b"\x02\x00",  # field 0
        b"\x13",  # a group
        b"\x12\x01\xff",  # a resource, or a type, that is none
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    for reader in (DeltaRequest.decode, WireResponse.decode):
        with pytest.raises(NotProtobuf):
            reader(message)


@pytest.mark.parametrize(
    "message",
    [
        bytes_field(1, bytes_field(1, b"\xff")),  # a node's id that is no UTF-8
        bytes_field(1, bytes_field(3, b"\x0a\x09abc")),  # metadata that ends too late
        bytes_field(5, bytes_field(1, b"\xff")),  # a name that is no UTF-8
        # A double of seven bytes, as a text would have them.
        bytes_field(1, bytes_field(3, bytes_field(1, bytes_field(2, bytes_field(2, bytes(7)))))),
    ],
)
def test_what_is_wrong_within_a_request_is_refused(message: bytes) -> None:
    with pytest.raises(NotProtobuf):
        DeltaRequest.decode(message)


@given(st.data())
def test_damaged_messages_are_messages_or_refused(data: st.DataObject) -> None:
    whole = bytearray(data.draw(REQUESTS | RESPONSES, label="message").encode())
    for at in data.draw(st.lists(st.integers(0, max(0, len(whole) - 1)), max_size=4)):
        if whole:
            whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for reader in (DeltaRequest.decode, WireResponse.decode):
        try:
            found: DeltaRequest | WireResponse = reader(cut)
        except NotProtobuf:
            continue
        # Whatever was read can be written, and means the same.
        assert reader(found.encode()) == found or math.isnan(_any_number(found))


def _any_number(found: object) -> float:
    """NaN, which is not equal to itself, if there is one in a node's metadata."""
    return math.nan if "nan" in repr(found) else 0.0
