"""A throw-away root with P-256 keys, and what it signs: for the CA's callers, and for those who have no CA client.

Not the product's CA (python/ztunnel/identity/ca); keys of those without a client lie in files.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.pure_python.certs import key_usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY = dt.timedelta(days=1)


class Authority:
    """A P-256 root and what it signs."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench root")])
        public = self._key.public_key()
        builder = _builder(name, name, public, 2 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(key_usage(ca=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        self._root = builder.sign(self._key, hashes.SHA256())
        self.root = _pem(self._root)

    def sign(
        self,
        public: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        life: dt.timedelta,
    ) -> bytes:
        """A leaf for both ends of a connection, as PEM."""
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(x509.Name([]), self._root.subject, public, life)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(key_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(issuer, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        return _pem(builder.sign(self._key, hashes.SHA256()))

    def credentials(self, identity: str, folder: Path) -> tuple[Path, Path, Path]:
        """Chain, key and root as files, for a subject that has no CA client."""
        return self._issue([x509.UniformResourceIdentifier(identity)], folder)

    def server_context(self, folder: Path) -> ssl.SSLContext:
        """The CA's own face."""
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        chain, key, _ = self._issue([x509.DNSName("localhost"), loopback], folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(chain, key)
        return context

    def _issue(self, names: Sequence[x509.GeneralName], folder: Path) -> tuple[Path, Path, Path]:
        secret = ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(parents=True, exist_ok=True)
        chain, key, root = folder / "chain.pem", folder / "key.pem", folder / "root.pem"
        chain.write_bytes(self.sign(secret.public_key(), names, DAY))
        root.write_bytes(self.root)
        key.touch(mode=0o600)
        key.write_bytes(
            secret.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return chain, key, root


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, life: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + life)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
