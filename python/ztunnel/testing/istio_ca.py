"""An authority that speaks `istio.v1.auth` over real TLS, on a loopback port: signs, or does what the test says.

Counterpart of `identity.ca.istiod`. Needs `cryptography` and grpclib, as the package does; not imported by
`ztunnel.testing` itself, so that tests without a server do not pay for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from ztunnel.identity.ca.selfsigned import key_usage
from ztunnel.wire.citadel import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from ztunnel.wire.connection import Raw

if TYPE_CHECKING:
    from types import TracebackType

    from grpclib.protocol import H2Protocol

BACKDATING = timedelta(minutes=1)
# Seconds. Roots were there long before whoever uses them, also if a clock jumps.
ROOT_AGE = 86_400.0
# Of a leaf, as recorded: encipherment is for RSA and means nothing to an EC key, and it is there all the same.
ISTIOD_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_encipherment=True,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came."""

    request: CertificateRequest
    headers: dict[str, str]
    raw: bytes


Answer = Callable[[Asked], tuple[str, ...]]


class Authority:
    """A root, or what a root vouches for, and what it signs."""

    def __init__(self, above: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        above = above or self
        self._name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "cluster.local"),
                # Two roots of one name are two roots: the number tells them apart.
                x509.NameAttribute(NameOID.SERIAL_NUMBER, str(x509.random_serial_number())),
            ]
        )
        builder = _builder(
            self._key.public_key(), self._name, above._name, timedelta(days=10), ROOT_AGE
        )
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).add_extension(key_usage(signs_certificates=True), critical=True)
        self.pem = _pem(builder.sign(above._key, hashes.SHA256()))
        """Its own certificate."""

    def dump(self) -> str:
        """Its key and its certificate, for another process that is to be the same authority."""
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key.decode() + self.pem

    @classmethod
    def load(cls, dumped: str) -> Authority:
        """The counterpart of `dump`."""
        made = cls()
        key = serialization.load_pem_private_key(dumped.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - as `dump` wrote it
        certificate = x509.load_pem_x509_certificate(dumped.encode())
        made._key, made._name, made.pem = key, certificate.subject, _pem(certificate)
        return made

    def intermediate(self) -> Authority:
        """One that this one vouches for."""
        return Authority(self)

    def signed(self, csr: str, lifetime: float = 3600.0) -> str:
        """What a signing request (PEM) asks for."""
        request = x509.load_pem_x509_csr(csr.encode())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return self.sign(request.public_key(), list(names), lifetime)

    def sign(
        self,
        key: Any,
        names: list[x509.GeneralName],
        lifetime: float = 3600.0,
        *,
        backdating: float = BACKDATING.total_seconds(),
    ) -> str:
        """A leaf (PEM) for both ends of a connection, good since `backdating` seconds ago."""
        both = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        builder = (
            _builder(key, x509.Name([]), self._name, timedelta(seconds=lifetime), backdating)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(ISTIOD_USAGE, critical=True)
            .add_extension(both, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
        )
        return _pem(builder.sign(self._key, hashes.SHA256()))


class FakeIstioCa:
    """`async with FakeIstioCa() as ca:` serves on `ca.port`; the attributes say how it behaves."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, names: tuple[str, ...] = ("127.0.0.1",)
    ) -> None:
        """`names` are the names in its server certificate: host names and addresses."""
        self.host, self.port = host, port
        self.authority = Authority()
        self.asked: list[Asked] = []
        """Every request so far."""
        self.token: str | None = None
        """The only token that it takes, if it asks for one."""
        self.lifetime: float | None = None
        """What it grants, if not what was asked for."""
        self.answer: Answer = self.signed
        """What it answers; may raise `GRPCError`."""
        self.answering = asyncio.Event()
        """Cleared, no request is answered."""
        self.answering.set()
        self._names = names
        self._server: _Server | None = None
        # The same root for its own server certificate and for workloads, as istiod has it.
        self._server_key = ec.generate_private_key(ec.SECP256R1())

    async def __aenter__(self) -> Self:
        """Opens the port."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        await self.stop()

    async def start(self) -> None:
        """Opens the port; the same one again after `stop`."""
        self._server = _Server([_Service(self._create_certificate)], codec=Raw())
        listening = socket.create_server((self.host, self.port))
        self.port = listening.getsockname()[1]
        await self._server.start(sock=listening, ssl=self._context())

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server.close_connections()
            await self._server.wait_closed()
            self._server = None

    def signed(self, asked: Asked) -> tuple[str, ...]:
        """What an honest authority answers: the leaf that was asked for, and the root."""
        lifetime = self.lifetime or float(asked.request.validity_duration)
        return self.authority.signed(asked.request.csr, lifetime), self.authority.pem

    async def _create_certificate(self, stream: Stream[bytes, bytes]) -> None:
        raw = await stream.recv_message()
        assert raw is not None  # noqa: S101 - unary
        headers = {key: str(value) for key, value in (stream.metadata or {}).items()}
        asked = Asked(request=CertificateRequest.decode(raw), headers=headers, raw=raw)
        self.asked.append(asked)
        await self.answering.wait()
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            raise GRPCError(Status.UNAUTHENTICATED, "request authenticate failure")
        chain = self.answer(asked)
        await stream.send_message(CertificateResponse(cert_chain=chain).encode())

    def _context(self) -> ssl.SSLContext:
        chain = self.authority.sign(self._server_key.public_key(), [_name(n) for n in self._names])
        key = self._server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "server.pem")
            path.write_bytes(chain.encode() + key)
            context.load_cert_chain(path)
        return context


class _Server(Server):
    """grpclib's own lets connections live on after `close`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._protocols: list[H2Protocol] = []

    def close_connections(self) -> None:
        for protocol in self._protocols:
            with contextlib.suppress(AttributeError):  # one that has not shaken hands yet
                protocol.connection.close()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._protocols.append(protocol)
        return protocol


class _Service:
    def __init__(self, call: Callable[[Stream[bytes, bytes]], Any]) -> None:
        self._call = call

    def __mapping__(self) -> dict[str, Handler]:
        return {CREATE_CERTIFICATE: Handler(self._call, Cardinality.UNARY_UNARY, bytes, bytes)}


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    key: Any,
    subject: x509.Name,
    issuer: x509.Name,
    lifetime: timedelta,
    backdating: float = BACKDATING.total_seconds(),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=backdating))
        .not_valid_after(now + lifetime)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
