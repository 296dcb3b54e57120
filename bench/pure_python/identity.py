"""Who we are and whom we accept: TLS contexts and SPIFFE names.

The chain is checked by OpenSSL during the handshake, the name by us right after it. Its counterpart
in the product is rust/proxy/src/tls.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class IdentityError(Exception):
    """The chain was good, the name in it was not the one we wanted."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Three PEM files: our chain (leaf first), its key, and the roots we trust."""

    chain: Path
    key: Path
    roots: Path

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3 with `h2`, a client certificate required."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def client_context(self) -> ssl.SSLContext:
        """TLS 1.3 with `h2`; names are checked by `check_exact`, not by host name."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.chain, self.key)
        context.load_verify_locations(self.roots)
        context.set_alpn_protocols(["h2"])
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # nobody resumes; a ticket is two wasted records per handshake
        return context


def peer_names(tls: ssl.SSLObject) -> list[str]:
    """Give every SPIFFE URI in the peer's leaf certificate."""
    names = (tls.getpeercert() or {}).get("subjectAltName", ())
    pairs = cast("tuple[tuple[str, str], ...]", names)
    return [value for kind, value in pairs if kind == "URI" and value.startswith("spiffe://")]


def check_exact(names: Sequence[str], expected: Sequence[str]) -> str:
    """As a client: one of the server's names must be one of those we meant to reach."""
    for name in names:
        if name in expected:
            return name
    raise IdentityError(f"peer is {list(names)}, expected one of {list(expected)}")


def check_trust_domain(names: Sequence[str], trust_domain: str) -> str:
    """As a server: one of the client's names must be in our trust domain."""
    for name in names:
        if name.startswith(f"spiffe://{trust_domain}/"):
            return name
    raise IdentityError(f"peer is {list(names)}, expected trust domain `{trust_domain}`")
