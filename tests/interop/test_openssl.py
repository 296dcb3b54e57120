"""TLS as OpenSSL sees it: `s_client` against our 15008, `s_server` behind our client.

What is offered, what is refused and how, what is sent (spec/dataplane.md §9.1–9.2). Names and dates in
certificates are the refusal tests' matter.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.interop import tools
from tests.interop.process import Running, running
from tests.interop.transfer import refusal
from tests.support.apps import Heard
from tests.support.certs import HOUR, Authority
from tests.support.nodes import HBONE_PORT, Mesh, Node, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
# OpenSSL never speaks HTTP/2: the node ends its connection when that is overdue, and so every test.
HURRY = {"handshake": "1s", "preface": "1s"}


class Client:
    """`openssl s_client` with a good certificate, against a node."""

    def __init__(self, folder: Path, node: Node) -> None:
        leaf = Authority.of_node(folder / "ca").leaf(CLIENT)
        self._leaf = folder / "client.pem"
        self._leaf.touch(mode=0o600)
        self._leaf.write_bytes(leaf.chain + leaf.key)
        self._roots = folder / "ca" / "root.pem"
        self.node = node

    def connect(self, *options: str, certificate: bool = True) -> str:
        """Everything that it says until the connection has ended, handshake messages included."""
        where = ["-connect", as_text(self.node.bound["inbound"]), "-CAfile", str(self._roots)]
        own = ["-cert", str(self._leaf)] if certificate else []
        said = subprocess.run(
            [str(tools.openssl()), "s_client", "-msg", "-ign_eof", *where, *own, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
        )
        return said.stdout.decode(errors="replace")

    def is_accepted(self, *options: str) -> str:
        """The same, once the handshake has held."""
        said = self.connect(*options)
        assert "Verify return code: 0 (ok)" in said, said
        assert "fatal" not in said, said
        return said

    def is_refused(self, alert: int, *options: str, certificate: bool = True) -> None:
        """The node must say why, with this alert (RFC 8446 §6.2)."""
        said = self.connect(*options, certificate=certificate)
        assert f"SSL alert number {alert}" in said, said

    def log(self, error: str) -> None:
        """What the node's access log must say of it."""
        self.node.access.wait_for("connection failed", error=re.compile(error))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    tools.openssl()
    folder = tmp_path_factory.mktemp("openssl")
    with Mesh(folder, network="127.3") as mesh:
        mesh.workload("client")
        mesh.workload("server")
        with Node(mesh, "server", deadlines=HURRY) as node:
            yield Client(folder, node)


PROTOCOL_VERSION, HANDSHAKE_FAILURE = 70, 40
CERTIFICATE_REQUIRED, NO_APPLICATION_PROTOCOL = 116, 120


def test_tls_1_3_is_accepted_and_1_2_refused(client: Client) -> None:
    assert "New, TLSv1.3" in client.is_accepted()
    client.is_refused(PROTOCOL_VERSION, "-tls1_2")
    client.log("peer does not offer TLS 1.3")


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"])
def test_aes_gcm_is_accepted(client: Client, suite: str) -> None:
    assert f"Cipher is {suite}" in client.is_accepted("-ciphersuites", suite)


@pytest.mark.parametrize("suite", ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256"])
def test_other_suites_are_refused(client: Client, suite: str) -> None:
    client.is_refused(HANDSHAKE_FAILURE, "-ciphersuites", suite)
    client.log("no suite, group or signature scheme in common")


def test_the_clients_order_of_suites_counts(client: Client) -> None:
    small, large = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"
    for first, second in ((small, large), (large, small)):
        said = client.is_accepted("-ciphersuites", f"{first}:{second}")
        assert f"Cipher is {first}" in said


@pytest.mark.parametrize(
    ("group", "shown"),
    [("X25519", "X25519"), ("P-256", "ECDH, prime256v1"), ("P-384", "ECDH, secp384r1")],
)
def test_common_groups_are_accepted(client: Client, group: str, shown: str) -> None:
    assert f"Server Temp Key: {shown}" in client.is_accepted("-groups", group)


@pytest.mark.parametrize("group", ["P-521", "X448", "ffdhe2048"])
def test_other_groups_are_refused(client: Client, group: str) -> None:
    client.is_refused(HANDSHAKE_FAILURE, "-groups", group)


def test_a_share_of_the_wrong_group_is_asked_for_again(client: Client) -> None:
    said = client.is_accepted("-groups", "P-521:P-256")
    assert said.count("], ClientHello") == 2
    assert "Server Temp Key: ECDH, prime256v1" in said


def test_alpn_is_h2_or_nothing(client: Client) -> None:
    assert "ALPN protocol: h2" in client.is_accepted("-alpn", "h2")
    assert "ALPN protocol: h2" in client.is_accepted("-alpn", "http/1.1,h2")
    assert "No ALPN negotiated" in client.is_accepted()
    client.is_refused(NO_APPLICATION_PROTOCOL, "-alpn", "http/1.1")
    client.log("does not offer application protocol `h2`")


def test_a_client_certificate_is_required(client: Client) -> None:
    client.is_refused(CERTIFICATE_REQUIRED, "-alpn", "h2", certificate=False)
    client.log("peer sent no certificate")


def test_the_chain_is_the_leaf_and_not_the_root(client: Client) -> None:
    said = client.is_accepted("-showcerts")
    assert said.count("-----BEGIN CERTIFICATE-----") == 1
    assert "No client certificate CA names sent" in said


def test_the_chain_has_its_intermediates_and_not_the_root(tmp_path: Path) -> None:
    # The built-in CA has no intermediates, so this certificate comes from a test's own.
    with _data_plane(tmp_path) as (address, roots):
        said = subprocess.run(
            [str(tools.openssl()), "s_client", "-connect", address, "-showcerts"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
        ).stdout.decode(errors="replace")
    sent = [x509.load_pem_x509_certificate(pem.encode()) for pem in _PEM.findall(said)]
    names = [certificate.issuer.rfc4514_string() for certificate in sent]
    assert names == ["CN=an intermediate", "CN=a root"]
    assert len(x509.load_pem_x509_certificates(roots)) == 1


def test_the_server_sends_no_ticket(client: Client) -> None:
    said = client.is_accepted("-alpn", "h2")
    # Alive until the node ended it, so a ticket would have come.
    assert "], warning close_notify" in said
    assert "NewSessionTicket" not in said
    assert "Early data was not sent" in said


@contextmanager
def behind_our_client(folder: Path, *options: str) -> Iterator[tuple[Node, str, Running]]:
    """A node whose connections to its local port lead to `s_server`."""
    program = str(tools.openssl())
    with Mesh(folder, network="127.3") as mesh:
        mesh.workload("client")
        far = mesh.workload("server")
        target = f"{far}:80"
        with Node(mesh, "client", forwards=[target], deadlines=HURRY) as node:
            leaf = Authority.of_node(folder / "ca").leaf(SERVER)
            file = folder / "server.pem"
            file.touch(mode=0o600)
            file.write_bytes(leaf.chain + leaf.key)
            roots = str(folder / "ca" / "root.pem")
            where = ["-accept", f"{far}:{HBONE_PORT}", "-cert", str(file), "-CAfile", roots]
            command = [program, "s_server", "-trace", "-Verify", "4", *where, *options]
            with running("s_server", *command) as server:
                server.output.wait(lambda line: line == "ACCEPT")
                yield node, target, server


def test_our_hello_offers_what_it_must_and_no_name(tmp_path: Path) -> None:
    with behind_our_client(tmp_path, "-alpn", "h2") as (node, target, server):
        assert refusal(node.forwards[target]) == Heard(b"", "ECONNRESET")
        server.output.wait(lambda line: "Shared ciphers" in line or "CIPHER is" in line)
        trace = "\n".join(server.output.lines)
    hello = trace.partition("ClientHello")[2].partition("ServerHello")[0]
    assert re.findall(r"TLS_AES_\w+|TLS_CHACHA\w+", hello) == [
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
    ]
    assert _extension(hello, "supported_versions") == ["TLS 1.3 (772)"]
    assert _extension(hello, "application_layer_protocol_negotiation") == ["h2"]
    groups = " ".join(_extension(hello, "supported_groups"))
    assert re.findall(r"\((\d+)\)", groups) == ["29", "23", "24", "4588"]
    assert "server_name" not in hello
    assert "session_ticket" not in hello
    assert "extension_type=psk(" not in hello
    assert "early_data" not in hello
    assert f"URI:{CLIENT}" in trace
    assert "ALPN protocols selected: h2" in trace


def test_our_client_never_resumes(tmp_path: Path) -> None:
    # s_server sends two tickets to whoever connects.
    with behind_our_client(tmp_path, "-alpn", "h2") as (node, target, server):
        for _ in range(2):
            assert refusal(node.forwards[target]) == Heard(b"", "ECONNRESET")
        server.output.wait(lambda line: "ClientHello" in line, count=2)
        server.output.wait(lambda line: "NewSessionTicket" in line, count=4)
        trace = "\n".join(server.output.lines)
    assert "extension_type=psk(" not in trace
    assert "Reused, TLS" not in trace


def test_our_client_does_not_insist_on_alpn(tmp_path: Path) -> None:
    with behind_our_client(tmp_path) as (node, target, server):
        assert refusal(node.forwards[target]) == Heard(b"", "ECONNRESET")
        server.output.wait(lambda line: "CIPHER is TLS_AES_256_GCM_SHA384" in line)


@pytest.mark.parametrize(
    "option",
    [
        ("-tls1_2",),
        ("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("-groups", "P-521"),
        ("-groups", "X448"),
    ],
)
def test_our_client_refuses_what_our_server_refuses(
    tmp_path: Path, option: tuple[str, ...]
) -> None:
    with behind_our_client(tmp_path, *option) as (node, target, _):
        assert refusal(node.forwards[target]) == Heard(b"", "ECONNRESET")
        node.access.wait_for("connection complete", error=re.compile("tls handshake error|alert"))


@contextmanager
def _data_plane(folder: Path) -> Iterator[tuple[str, bytes]]:
    """A bare data plane with a leaf behind an intermediate; its 15008, and the roots."""
    from ztunnel.dataplane.handle import Resource
    from ztunnel.dataplane.native import NativeDataPlane

    with Mesh(folder, network="127.3") as mesh:
        here = mesh.workload("server")
        workload = mesh.edit("server") | {"uid": "default/server", "trustDomain": "cluster.local"}
        settings = {
            "workload": {"name": "server", "namespace": "default", "serviceAccount": "server"},
            "listeners": {"inbound": f"{here}:0"},
            "accessLog": {"format": "off"},
        }
        plane = NativeDataPlane(json.dumps(settings).encode())
        try:
            key = plane.new_key()
            chain, roots = _chain(x509.load_pem_x509_csr(key.csr(SERVER)))
            resource = Resource(
                type_url="ztunnel.local/Workload",
                name="default/server",
                value=json.dumps(workload | {"services": {}}).encode(),
            )
            assert not plane.apply([resource], [])
            plane.install(SERVER, key, chain, roots)
            bound = plane.start()
            plane.mark_synced()
            yield bound["inbound"], roots
        finally:
            plane.stop()


def _chain(request: x509.CertificateSigningRequest) -> tuple[bytes, bytes]:
    """Leaf and intermediate, and the root, as PEM."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _signed("a root", root_key.public_key(), "a root", root_key, ca=True)
    middle = _signed("an intermediate", key.public_key(), "a root", root_key, ca=True)
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    leaf = _signed(None, public, "an intermediate", key, ca=False)
    pem = [each.public_bytes(serialization.Encoding.PEM) for each in (leaf, middle, root)]
    return pem[0] + pem[1], pem[2]


def _signed(
    subject: str | None,
    public: ec.EllipticCurvePublicKey,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(now + HOUR)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        uri = x509.UniformResourceIdentifier(SERVER)
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=True)
    return builder.sign(key, hashes.SHA256())


def _name(common: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def _extension(hello: str, name: str) -> list[str]:
    """The lines below an extension's heading in OpenSSL's trace; a blank line follows the last one."""
    body = hello.partition(f"extension_type={name}(")[2].partition("extension_type=")[0]
    body = body.partition("\n\n")[0]
    return [line.strip() for line in body.splitlines()[1:] if line.strip()]
