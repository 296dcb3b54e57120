"""The benchmark's CA: one call, over memory and over TLS on loopback, asked with the key that a node would ask with."""

from __future__ import annotations

import json
import socket
import ssl
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bench.macro import protobuf
from bench.macro.authority import Authority
from bench.macro.ca import METHOD, Conversation, serving
from ztunnel.dataplane.native import NativeDataPlane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IDENTITY = "spiffe://cluster.local/ns/default/sa/client"
TOKEN = "let me in"


def csr() -> bytes:
    """As a node makes it; the data plane is never started."""
    workload = {"name": "client", "namespace": "default", "serviceAccount": "client"}
    return NativeDataPlane(json.dumps({"workload": workload}).encode()).new_key().csr(IDENTITY)


def request(pem: bytes, lifetime: int = 3600) -> bytes:
    message = (
        protobuf.length_delimited(1, pem) + protobuf.varint(3 << 3) + protobuf.varint(lifetime)
    )
    return b"\0" + len(message).to_bytes(4, "big") + message


class Client:
    """One call at a time over whatever carries bytes there and back."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self._http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self._http.initiate_connection()

    def call(
        self, body: bytes, *, token: str = TOKEN, path: str = METHOD
    ) -> tuple[dict[str, str], bytes]:
        stream = self._http.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":path", path)]
        headers += [(":authority", "localhost"), ("te", "trailers")]
        headers += [("content-type", "application/grpc"), ("authorization", f"Bearer {token}")]
        self._http.send_headers(stream, headers)
        for at in range(0, len(body), 16_000):
            self._http.send_data(stream, body[at : at + 16_000])
        self._http.end_stream(stream)
        said: dict[str, str] = {}
        answer = b""
        for _ in range(10):
            for event in self._http.receive_data(self._exchange(self._http.data_to_send())):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    said |= {str(name): str(value) for name, value in event.headers or ()}
                elif isinstance(event, h2.events.DataReceived):
                    answer += event.data or b""
                elif isinstance(event, h2.events.StreamEnded):
                    return said, answer
        raise AssertionError("no answer")


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def client(authority: Authority) -> Client:
    conversation = Conversation(authority, TOKEN)

    def exchange(data: bytes) -> bytes:
        conversation.receive(data)
        return conversation.outgoing()

    return Client(exchange)


def chain(answer: bytes) -> list[x509.Certificate]:
    """The certificates of an answer; each is one field with the same number."""
    assert answer[0] == 0
    assert int.from_bytes(answer[1:5], "big") == len(answer) - 5
    begin = b"-----BEGIN CERTIFICATE-----"
    parts = answer[5:].split(begin)[1:]
    return [x509.load_pem_x509_certificate(begin + part) for part in parts]


def test_a_node_s_request_is_signed_for_its_name_and_key(
    client: Client, authority: Authority
) -> None:
    pem = csr()
    said, answer = client.call(request(pem, lifetime=3600))
    assert (said[":status"], said["grpc-status"]) == ("200", "0")
    leaf, root = chain(answer)
    assert root == x509.load_pem_x509_certificate(authority.root)
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [IDENTITY]
    asked = x509.load_pem_x509_csr(pem).public_key()
    assert isinstance(asked, ec.EllipticCurvePublicKey)
    assert leaf.public_key() == asked
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 3600 + 300


@pytest.mark.parametrize(
    ("more", "body", "status"),
    [
        ({"token": "somebody else's"}, None, "16"),
        ({"path": "/istio.v1.auth.IstioCertificateService/Other"}, None, "12"),
        ({}, request(b"not a csr"), "3"),
        ({}, b"\0", "3"),
        ({}, b"\0" * 20_000, "3"),
    ],
    ids=["token", "method", "csr", "cut", "long"],
)
def test_anything_else_is_refused_with_its_status(
    client: Client, more: dict[str, str], body: bytes | None, status: str
) -> None:
    good = request(csr())
    said, answer = client.call(body or good, **more)
    assert (said["grpc-status"], answer) == (status, b"")
    assert said["grpc-message"]
    # The connection is still good for the next one.
    assert client.call(good)[0]["grpc-status"] == "0"


def test_it_serves_over_tls_with_its_own_root(authority: Authority, tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root)
    context = ssl.create_default_context(cafile=str(root))
    context.set_alpn_protocols(["h2"])
    address = listener.getsockname()
    with (
        serving(authority, TOKEN, tmp_path / "ca", [lambda: listener]),
        socket.create_connection(address, timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"

        def exchange(data: bytes) -> bytes:
            connection.sendall(data)
            return connection.recv(65536)

        said, answer = Client(exchange).call(request(csr()))
    assert said["grpc-status"] == "0"
    assert len(chain(answer)) == 2


def test_numbers_of_many_bytes_are_read_as_they_are_written() -> None:
    for value in (0, 127, 128, 300, 86400, 2**40):
        assert protobuf.fields(protobuf.varint(3 << 3) + protobuf.varint(value)) == {3: value}
    for bad in (b"\x08", b"\x0a\x05abc", b"\x0b", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError, match=r"cut short|without end|wire type"):
            protobuf.fields(bad)
