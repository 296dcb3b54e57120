"""TLS toward the control plane: whose certificate counts and which names it may have (spec/control.md §4.1).

Python's own TLS, never the data plane's: another key, other roots, no client certificate.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ztunnel.endpoint import RootFile, RootText
from ztunnel.errors import EndpointError
from ztunnel.files import read_small_file
from ztunnel.spelling import is_address

if TYPE_CHECKING:
    from ztunnel.endpoint import Endpoint, Roots

# A bundle of every public root has 250 KiB.
MAX_ROOTS = 4 * 1024 * 1024


def client_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Made anew for each connection, so that it follows the file of roots; `EndpointError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    _trust(context, endpoint.roots)
    if endpoint.other_name is not None:
        # OpenSSL takes one name, and SNI stays the host's: the names are ours to check, after the chain.
        context.check_hostname = False
        context.sslobject_class = _one_of(endpoint.host, endpoint.other_name)
    return context


def _trust(context: ssl.SSLContext, roots: Roots) -> None:
    match roots:
        case RootFile(path):
            try:
                pem = read_small_file(path, limit=MAX_ROOTS)
            except OSError as error:
                reason = error.strerror or error
                raise EndpointError(
                    f"the control plane's roots cannot be read: {reason}: {path}"
                ) from None
            _load(context, pem, str(path))
        case RootText(pem):
            _load(context, pem.encode(), "the text given for them")
        case _:
            context.load_default_certs()


def _load(context: ssl.SSLContext, pem: bytes, where: str) -> None:
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        message = f"the control plane's roots are not certificates in PEM: {where}"
        raise EndpointError(message) from None


def _one_of(*names: str) -> type[ssl.SSLObject]:
    """TLS that ends its handshake only with a peer whose certificate has one of the names."""

    class OneOfTheNames(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert() or {}
            if not any(has_name(certificate, name) for name in names):
                wanted = " or ".join(names)
                raise ssl.SSLCertVerificationError(1, f"the certificate is not for {wanted}")

    return OneOfTheNames


def has_name(certificate: object, name: str) -> bool:
    """Whether a certificate (as `getpeercert` gives it) is for a host name or an address (RFC 6125 §6.4)."""
    alternatives = certificate.get("subjectAltName", ()) if isinstance(certificate, dict) else ()
    if is_address(name):
        return ("IP Address", name) in alternatives
    return any(kind == "DNS" and _covers(value, name) for kind, value in alternatives)


def _covers(pattern: str, name: str) -> bool:
    """A star stands for the whole first label and nothing more."""
    pattern, name = pattern.lower(), name.lower().rstrip(".")
    if pattern.startswith("*."):
        first, _, rest = name.partition(".")
        return bool(first) and "." in rest and rest == pattern[2:]
    return pattern == name
