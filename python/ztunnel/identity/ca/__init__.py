"""Those who sign: what the manager asks of any certificate authority.

`selfsigned.py` is the built-in one, run in a child by `process.py`; istiod's comes beside them.
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
