"""Those who sign: what the manager asks of any certificate authority.

    CaClient ◀── process.py    the built-in one (`selfsigned.py`), in a child process
             ◀── istiod.py     whoever speaks `istio.v1.auth`
             ◀── (free)        an agent of the SPIFFE Workload API

The third seat is free. An agent streams certificates with keys of its own making instead of signing requests, so
whoever takes the seat keeps that stream open, answers `sign` from what came last, and has Rust take the agent's key
(`DataPlane.install` takes keys that Rust made; one that came over a socket must go there without becoming Python
bytes). Nothing else changes: manager and schedule know no authority by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ztunnel.identity.spiffe import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """What a certificate authority answered."""

    chain: bytes
    """PEM, the leaf first, then intermediates."""
    roots: bytes
    """PEM, every root that peers may chain to."""
    not_before: float
    """Seconds since 1970, as in the leaf."""
    not_after: float


class CaClient(Protocol):
    """Signs requests. Raises `CaError` and nothing else for what went wrong at the authority."""

    async def open(self) -> None:
        """Gets ready. Raises what will be as wrong in an hour; whoever cannot be reached *now* is no error."""
        ...

    def close(self) -> None:
        """Lets go of whatever it holds."""
        ...

    async def sign(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """A certificate for exactly `identity`, on the key of `csr` (PEM PKCS#10)."""
        ...
