"""The built-in certificate authority: one root on disk, leaves signed at once.

For meshes without a control plane. Opt-in by the node file (`ca:`) or by `FAKE_CA=true`, where the root is kept
nowhere; never a fallback for another authority, and never with a key that somebody else has.
The only user of `cryptography`. A node runs it in a child process: see `process.py`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ztunnel.errors import CaError, CaFolderError, CaRefusal
from ztunnel.identity.ca import IssuedCertificate
from ztunnel.identity.ca.folder import ROOT_FILE, RootFiles, load_or_make
from ztunnel.identity.roots import certificates_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.identity.spiffe import Identity

# A mesh that outlives this has had time to plan the change of its root (`root.pem` may hold several).
ROOT_LIFETIME = timedelta(days=3650)
# Peers' clocks may be this far behind ours; never more than a quarter of a short-lived leaf, or its half-life
# would have passed before it is issued.
BACKDATING = timedelta(seconds=60)
# A signing request of a P-256 key with one name has about 500 bytes.
MAX_CSR = 16 * 1024


class SelfSignedCa:
    """Signs for the identities of one trust domain."""

    def __init__(
        self,
        *,
        key: ec.EllipticCurvePrivateKey,
        root: x509.Certificate,
        roots: bytes,
        trust_domain: str,
        leaf_lifetime: float,
        wall: Callable[[], float],
    ) -> None:
        self._key = key
        self._root = root
        self._roots = roots
        self._trust_domain = trust_domain
        self._leaf_lifetime = timedelta(seconds=leaf_lifetime)
        self._wall = wall

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        trust_domain: str,
        leaf_lifetime: float,
        wall: Callable[[], float] = time.time,
    ) -> Self:
        """Opens a CA folder, makes it if it is new; `CaFolderError` if it cannot be used."""
        files = load_or_make(directory, lambda: _new_root(trust_domain, _moment(wall())))
        key, root = _parse(files, directory)
        _check(key, root, directory, trust_domain, _moment(wall()))
        roots = b"".join(certificates_in(files.roots))
        return cls(
            key=key,
            root=root,
            roots=roots,
            trust_domain=trust_domain,
            leaf_lifetime=leaf_lifetime,
            wall=wall,
        )

    @classmethod
    def fresh(
        cls,
        *,
        trust_domain: str,
        leaf_lifetime: float,
        wall: Callable[[], float] = time.time,
    ) -> Self:
        """One whose root is made now and ends with this object: nothing is read, nothing is written."""
        files = _new_root(trust_domain, _moment(wall()))
        key, root = _parse(files, Path("memory"))
        return cls(
            key=key,
            root=root,
            roots=files.roots,
            trust_domain=trust_domain,
            leaf_lifetime=leaf_lifetime,
            wall=wall,
        )

    def issue(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """A certificate for `identity`; `CaRefusal` if the request asks for anything else."""
        request = _read_request(csr)
        if identity.trust_domain != self._trust_domain:
            raise CaRefusal(f"not an identity of trust domain {self._trust_domain}: {identity}")
        _check_request(request, identity)
        now = _moment(self._wall())
        # Rounded: X.509 knows no fractions, and what is planned must be what is written.
        begins = (now - min(BACKDATING, self._leaf_lifetime / 4)).replace(microsecond=0)
        ends = min(
            (now + self._leaf_lifetime).replace(microsecond=0), self._root.not_valid_after_utc
        )
        if ends <= now:
            raise CaError(
                f"the root certificate ended on {self._root.not_valid_after_utc:%Y-%m-%d}"
            )
        leaf = self._leaf(request, identity, begins, ends)
        return IssuedCertificate(
            chain=leaf.public_bytes(serialization.Encoding.PEM),
            roots=self._roots,
            not_before=begins.timestamp(),
            not_after=ends.timestamp(),
        )

    def _leaf(
        self,
        request: x509.CertificateSigningRequest,
        identity: Identity,
        begins: datetime,
        ends: datetime,
    ) -> x509.Certificate:
        """An X.509-SVID (SPIFFE X.509-SVID standard §2–4): no subject, one URI name, no CA."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            # Critical, since the subject is empty (RFC 5280 §4.2.1.6).
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))]),
                critical=True,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256())


def _new_root(trust_domain: str, now: datetime) -> RootFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            # RFC 5280 appendix A: at most 64 characters in each.
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, "ztunnel built-in root"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - BACKDATING).replace(microsecond=0))
        .not_valid_after((now + ROOT_LIFETIME).replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # X.509-SVID §2: a signing certificate names its trust domain.
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]
            ),
            critical=False,
        )
    )
    root = builder.sign(key, hashes.SHA256())
    return RootFiles(
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        roots=root.public_bytes(serialization.Encoding.PEM),
    )


def _parse(
    files: RootFiles, directory: Path
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key(files.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CaFolderError(
            f"the CA's key is damaged or not a PEM private key: {directory}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CaFolderError(f"the CA's key is not an ECDSA P-256 key: {directory}")
    try:
        root = x509.load_pem_x509_certificate(certificates_in(files.roots)[0])
    except (ValueError, CaError):
        raise CaFolderError(
            f"the CA's certificate is damaged or not PEM: {directory / ROOT_FILE}"
        ) from None
    return key, root


def _check(
    key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    directory: Path,
    trust_domain: str,
    now: datetime,
) -> None:
    """Key, certificate, trust domain and time must fit, or every leaf would be refused by every peer."""
    path = directory / ROOT_FILE
    if _spki(key.public_key()) != _spki(root.public_key()):
        raise CaFolderError(f"the CA's key and certificate do not belong together: {directory}")
    try:
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        raise CaFolderError(f"the CA's certificate is not one that ztunnel made: {path}") from None
    if not constraints.ca:
        raise CaFolderError(f"the CA's certificate may not sign others: {path}")
    if uris != [f"spiffe://{trust_domain}"]:
        found = ", ".join(uris) or "none"
        message = f"the CA folder is for another trust domain than {trust_domain} ({found})"
        raise CaFolderError(
            f"{message}; choose another folder, or set `ca.trustDomain`: {directory}"
        )
    if not root.not_valid_before_utc <= now < root.not_valid_after_utc:
        span = f"{root.not_valid_before_utc:%Y-%m-%d} to {root.not_valid_after_utc:%Y-%m-%d}"
        raise CaFolderError(
            f"the CA's certificate counts from {span}, not now ({now:%Y-%m-%d}): {path}"
        )


def _read_request(csr: bytes) -> x509.CertificateSigningRequest:
    if len(csr) > MAX_CSR:
        raise CaRefusal(f"a signing request larger than {MAX_CSR} bytes: {len(csr)}")
    try:
        request = x509.load_pem_x509_csr(csr)
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise CaRefusal("not a signing request in PEM") from None
    if not signed:
        raise CaRefusal("the signing request is not signed by its own key")
    return request


def _check_request(request: x509.CertificateSigningRequest, identity: Identity) -> None:
    """It must ask for exactly one name, and for nothing else (spec/control.md §7.2)."""
    try:
        key, extensions = request.public_key(), list(request.extensions)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise CaRefusal(
            "a signing request with a key or an extension that cannot be read"
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CaRefusal("the key of the signing request is not an ECDSA P-256 key")
    others = [
        e.oid.dotted_string
        for e in extensions
        if not isinstance(e.value, x509.SubjectAlternativeName)
    ]
    if others:
        raise CaRefusal(f"the signing request asks for more than a name: {', '.join(others)}")
    names = [
        n for e in extensions if isinstance(e.value, x509.SubjectAlternativeName) for n in e.value
    ]
    if names != [x509.UniformResourceIdentifier(str(identity))]:
        found = ", ".join(str(n.value) for n in names) or "none"
        raise CaRefusal(f"the signing request does not ask for {identity} alone: {found}")


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What the key of an authority, or of a leaf, may be used for."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _moment(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC)
