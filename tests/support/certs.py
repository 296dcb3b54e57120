"""Certificates for tests, good ones and every kind of bad one.

A test's own authority, or the one in a node's CA folder: whoever holds its key can sign a leaf that the node
must believe, and all those that it must not. Not the product's CA (python/ztunnel/identity/ca), and no checks.
"""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR = dt.timedelta(hours=1)
SERVER_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT_ONLY = (ExtendedKeyUsageOID.CLIENT_AUTH,)
BOTH_SIDES = (*SERVER_ONLY, *CLIENT_ONLY)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A certificate with its key, as PEM."""

    chain: bytes
    key: bytes

    def client_context(self, folder: Path) -> ssl.SSLContext:
        """TLS 1.3 and `h2`, as a client that believes every server."""
        return self._load(client_context(), folder)

    def server_context(self, folder: Path) -> ssl.SSLContext:
        """TLS 1.3 and `h2`, as a server that asks no client for a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        return self._load(context, folder)

    def _load(self, context: ssl.SSLContext, folder: Path) -> ssl.SSLContext:
        # OpenSSL takes files only.
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "leaf.pem"
        file.touch(mode=0o600)
        file.write_bytes(self.chain + self.key)
        context.load_cert_chain(file)
        return context


class Authority:
    """One root, and whatever leaves a test asks for."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def new(cls, common_name: str = "a root that nobody knows") -> Self:
        """A fresh root, valid for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        return cls(_root(name, key), key)

    @classmethod
    def lookalike(cls, other: Authority) -> Self:
        """A root with the other's name, but a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_root(other.certificate.subject, key), key)

    @classmethod
    def of_node(cls, folder: Path) -> Self:
        """The authority in a node's CA folder."""
        key = serialization.load_pem_private_key((folder / "root-key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate((folder / "root.pem").read_bytes()), key)

    def crl(self, *serials: int, expired: bool = False) -> bytes:
        """A list of revoked certificates (PEM)."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - 24 * HOUR)
            .next_update(now - HOUR if expired else now + 24 * HOUR)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            entry = entry.revocation_date(now - 24 * HOUR)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def leaf(
        self,
        *uris: str,
        dns: Sequence[str] = (),
        starts: dt.timedelta = -HOUR,
        ends: dt.timedelta = HOUR,
        usages: Sequence[x509.ObjectIdentifier] = BOTH_SIDES,
    ) -> Leaf:
        """A leaf with these names; times are relative to now, no `usages` leaves the extension out."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(name) for name in dns]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        return Leaf(
            chain=builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def serial_of(chain: bytes) -> int:
    """Of the leaf of a chain (PEM)."""
    return x509.load_pem_x509_certificate(chain).serial_number


def client_context(
    *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, alpn: Sequence[str] = ("h2",)
) -> ssl.SSLContext:
    """A client without a certificate, that believes every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_hello(context: ssl.SSLContext | None = None) -> bytes:
    """The first bytes that a client would send."""
    outgoing = ssl.MemoryBIO()
    session = (context or client_context()).wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake ended without a word from the server")


def _root(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(now + 24 * HOUR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
