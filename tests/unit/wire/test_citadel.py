"""The CA's messages against `google.protobuf`, and against what a real istiod answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from ztunnel.wire.citadel import CertificateRequest, CertificateResponse
from ztunnel.wire.protobuf import NotProtobuf, fields

CAPTURE = Path(__file__).parents[2] / "vectors" / "istio_create_certificate.jsonl"
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def oracle() -> tuple[Any, Any]:
    """The two messages as `google.protobuf` knows them, from the numbers in spec/control.md §6.4."""
    file = descriptor_pb2.FileDescriptorProto(
        name="citadel_for_tests.proto",
        package="istio.v1.auth",
        syntax="proto3",
        dependency=["google/protobuf/struct.proto"],
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=kinds.TYPE_STRING, label=one)
    request.field.add(name="validity_duration", number=3, type=kinds.TYPE_INT64, label=one)
    request.field.add(
        name="metadata",
        number=4,
        type=kinds.TYPE_MESSAGE,
        label=one,
        type_name=".google.protobuf.Struct",
    )
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=kinds.TYPE_STRING, label=many)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return tuple(  # type: ignore[return-value]
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"istio.v1.auth.{name}"))
        for name in ("IstioCertificateRequest", "IstioCertificateResponse")
    )


Request, Response = oracle()


@given(csr=st.text(), seconds=INT64, metadata=st.dictionaries(st.text(), st.text(), max_size=1))
def test_a_request_has_the_bytes_that_protobuf_writes(
    csr: str, seconds: int, metadata: dict[str, str]
) -> None:
    ours = CertificateRequest(csr=csr, validity_duration=seconds, metadata=tuple(metadata.items()))
    theirs = Request(csr=csr, validity_duration=seconds)
    if metadata:
        struct = struct_pb2.Struct()
        struct.update(metadata)
        theirs.metadata.CopyFrom(struct)
    assert ours.encode() == theirs.SerializeToString(deterministic=True)
    assert CertificateRequest.decode(theirs.SerializeToString()) == ours


@given(chain=st.lists(st.text()))
def test_a_response_is_read_and_written_as_protobuf_does(chain: list[str]) -> None:
    theirs = Response(cert_chain=chain).SerializeToString()
    ours = CertificateResponse(cert_chain=tuple(chain))
    assert CertificateResponse.decode(theirs) == ours
    assert ours.encode() == theirs


def test_a_real_authoritys_answers_survive_both_ways() -> None:
    answers = [json.loads(line) for line in CAPTURE.read_text().splitlines()]
    chains = [answer["cert_chain"] for answer in answers if "cert_chain" in answer]
    assert len(chains) == 4
    for chain in chains:
        theirs = Response(cert_chain=chain).SerializeToString()
        assert list(CertificateResponse.decode(theirs).cert_chain) == chain


def test_fields_that_nobody_knows_are_passed_over() -> None:
    # Field 2 in each wire type, and the chain (1) as a number, which is not ours either.
    unknown = b"\x10\x05" + b"\x11" + bytes(8) + b"\x12\x01x" + b"\x15" + bytes(4) + b"\x08\x01"
    assert CertificateResponse.decode(unknown + b"\x0a\x01a").cert_chain == ("a",)


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",  # a key without its length
        b"\x0a\x05abc",  # shorter than it says
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # longer than anything
        b"\x80" * 11,  # a number that does not end
        b"\x02\x00",  # field 0
        b"\x0b",  # a group
        b"\x0f",  # wire type 7
        b"\x0a\x01\xff",  # no UTF-8
        b"\x11\x00",  # a fixed number that is cut off
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(NotProtobuf):
        CertificateResponse.decode(message)


@given(st.binary())
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        found = list(fields(data))
    except NotProtobuf:
        return
    assert all(number > 0 for number, _ in found)
