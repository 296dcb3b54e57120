"""A certificate that is about to be signed: what an answer of a CA is made from, be it honest or not.

Counterparts: `certificates.py`, which makes one for each request, and `answers.py`, which uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from grpclib import GRPCError, Status

if TYPE_CHECKING:
    from ztunnel.testing.istio_ca import Authority
    from ztunnel.wire.citadel import CertificateRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """One request that was granted."""

    request: CertificateRequest
    identity: str
    """Whose certificate it is to be."""
    seconds: float
    """From now to its end."""
    backdating: float
    """Seconds from its beginning to now."""
    signer: Authority
    above: tuple[str, ...]
    """What follows a leaf in the chain: each intermediate, then all roots in one element."""

    def leaf(
        self, *, identity: str | None = None, key: Any = None, seconds: float | None = None
    ) -> str:
        """A leaf (PEM) as granted, but for what is given; `GRPCError` if the request's CSR is none."""
        csr = _read(self.request.csr)
        name = x509.UniformResourceIdentifier(identity or self.identity)
        if seconds is None:
            seconds = self.seconds
        # One that has ended has begun before that.
        backdating = max(self.backdating, 2 * -seconds)
        return self.signer.sign(key or csr.public_key(), [name], seconds, backdating=backdating)


def _read(pem: str) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
    except ValueError:
        message = "CSR signing error (the CSR cannot be parsed)"
        raise GRPCError(Status.INVALID_ARGUMENT, message) from None
    if not csr.is_signature_valid:
        raise GRPCError(Status.INVALID_ARGUMENT, "CSR signing error (its signature is wrong)")
    return csr
