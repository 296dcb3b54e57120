"""An authority that speaks `istio.v1.auth` over real TLS, on a loopback port: signs, or does what the test says.

Counterpart of `identity.ca.istiod`. Needs `cryptography` and grpclib, as the package does; not imported by
`ztunnel.testing` itself, so that tests without a server do not pay for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream

from ztunnel.wire.citadel import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse

if TYPE_CHECKING:
    from types import TracebackType

BACKDATING = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came."""

    request: CertificateRequest
    headers: dict[str, str]
    raw: bytes


Answer = Callable[[Asked], tuple[str, ...]]


@dataclass(kw_only=True)
class Authority:
    """A root and what it signs."""

    name: str = "cluster.local"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    root: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.name)])
        now = datetime.now(UTC)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATING)
            .not_valid_after(now + timedelta(days=10))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        """The root."""
        return _pem(self.root)

    def sign(
        self, key: Any, names: list[x509.GeneralName], lifetime: float = 3600.0, **more: bool
    ) -> str:
        """A leaf (PEM) for both ends of a connection."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATING)
            .not_valid_after(now + timedelta(seconds=lifetime))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=more.get("signs", False)), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
        )
        return _pem(builder.sign(self.key, hashes.SHA256()))


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
        self._server: Server | None = None
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
        self._server = Server([_Service(self._create_certificate)], codec=_Raw())
        listening = socket.create_server((self.host, self.port))
        self.port = listening.getsockname()[1]
        await self._server.start(sock=listening, ssl=self._context())

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def signed(self, asked: Asked) -> tuple[str, ...]:
        """What an honest authority answers: the leaf that was asked for, and the root."""
        csr = x509.load_pem_x509_csr(asked.request.csr.encode())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        lifetime = self.lifetime or float(asked.request.validity_duration)
        return self.authority.sign(csr.public_key(), list(names), lifetime), self.authority.pem

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


class _Service:
    def __init__(self, call: Callable[[Stream[bytes, bytes]], Any]) -> None:
        self._call = call

    def __mapping__(self) -> dict[str, Handler]:
        return {CREATE_CERTIFICATE: Handler(self._call, Cardinality.UNARY_UNARY, bytes, bytes)}


class _Raw(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        del message_type
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        del message_type
        return data


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
