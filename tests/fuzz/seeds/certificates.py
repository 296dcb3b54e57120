"""Seeds for `cert_chain` and `crl`: what authorities and their lists look like, and how both go wrong.

Keys are made anew at each run and kept nowhere: only the form of the certificates matters to the targets.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "spiffe://cluster.local/ns/fuzz/sa/client"
AUTHORITY = "fuzz root"
SERIAL = 0x01234567
DAY = dt.timedelta(days=1)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Signer:
    """A root, or what a root vouches for."""

    def __init__(self, name: str = AUTHORITY, above: Signer | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = above or self
        builder = _builder(self.key, self.name, above.name, 3650 * DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = _pem(builder.sign(above.key, hashes.SHA256()))

    def leaf(self, *names: str, lifetime: dt.timedelta = 365 * DAY) -> bytes:
        """A leaf with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(key, x509.Name([]), self.name, lifetime).add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        if names:
            uris = [x509.UniformResourceIdentifier(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=True)
        return _pem(builder.sign(self.key, hashes.SHA256()))

    def crl(self, *serials: int, form: str = "pem", delta: bool = False) -> bytes:
        """A list with these numbers."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(NOW)
            .next_update(NOW + DAY)
            .add_extension(x509.CRLNumber(7), critical=False)
        )
        if delta:
            builder = builder.add_extension(x509.DeltaCRLIndicator(6), critical=True)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), False)
            builder = builder.add_revoked_certificate(entry.build())
        made = builder.sign(self.key, hashes.SHA256())
        encoding = serialization.Encoding.PEM if form == "pem" else serialization.Encoding.DER
        return made.public_bytes(encoding)


def cert_chain() -> Iterator[tuple[str, bytes]]:
    """A chain, a zero byte, roots."""
    root = Signer()
    between = Signer("between", root)
    leaf = root.leaf(NAME)
    roots = b"\0" + root.pem
    yield "good", leaf + roots
    yield "intermediate", between.leaf(NAME) + between.pem + roots
    yield "wrong_order", between.pem + between.leaf(NAME) + roots
    yield "roots_two", leaf + roots + Signer().pem
    yield "roots_none", leaf
    yield "leaf_none", roots
    yield "crlf", (leaf + roots).replace(b"\n", b"\r\n")
    yield "remarks", b"x\n" + leaf + b"y" + b"\0z" + root.pem + b"z"
    yield "truncated", leaf[: len(leaf) // 2] + roots
    yield "base64", leaf.replace(b"M", b"!", 1) + roots
    yield "name_other", root.leaf(NAME + "s") + roots
    yield "names_two", root.leaf(NAME, NAME + "s") + roots
    yield "names_none", root.leaf() + roots
    yield "name_odd", root.leaf("spiffe://Ä/ns//sa/%00".encode("ascii", "replace").decode()) + roots
    yield "root_other", leaf + b"\0" + Signer("other").pem
    yield "moment", root.leaf(NAME, lifetime=dt.timedelta(seconds=1)) + roots
    yield "for_ever", root.leaf(NAME, lifetime=2_000_000 * DAY) + roots


def crl() -> Iterator[tuple[str, bytes]]:
    """Files of revoked certificates."""
    root, other = Signer(), Signer("another")
    named = root.crl(SERIAL)
    yield "empty", b""
    yield "blank", b" \r\n"
    yield "named", named
    yield "named_der", root.crl(SERIAL, form="der")
    yield "nobody", root.crl()
    yield "several", root.crl(*range(1, 20))
    yield "two", named + other.crl(SERIAL)
    yield "namesakes", named + Signer().crl(SERIAL)
    yield "certificate_between", named + root.pem + other.crl(1)
    yield "crlf", named.replace(b"\n", b"\r\n")
    yield "delta", root.crl(SERIAL, delta=True)
    yield "truncated", named[: len(named) // 2]
    yield "truncated_der", root.crl(SERIAL, form="der")[:-9]
    yield "relabelled", root.pem.replace(b"CERTIFICATE", b"X509 CRL")
    yield "serial_long", root.crl((1 << 159) - 1)
    yield "garbage", b"\x30\x82\xff\xff" + bytes(32)


def _builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(SERIAL)
        .not_valid_before(NOW)
        .not_valid_after(NOW + lifetime)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
