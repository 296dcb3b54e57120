"""An authority that speaks `istio.v1.auth`, as istiod does: one call for each certificate (spec/control.md §7.3).

Asks once and says what came of it. When to ask, and again after trouble, is `schedule.py`'s; the
connection is `wire.channel`'s; whether key, names and chain belong together is the data plane's at `install`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.errors import CaError
from ztunnel.identity.ca import IssuedCertificate
from ztunnel.identity.roots import certificates_in, on_lines_of_their_own
from ztunnel.wire.channel import UnaryChannel
from ztunnel.wire.citadel import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from ztunnel.wire.protobuf import NotProtobuf

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.endpoint import Endpoint
    from ztunnel.identity.spiffe import Identity

# Longer than the slowest authority that still works (reliability F24: 30 s), and shorter than the manager's
# patience, so that the error can say which server did not answer.
CALL_DEADLINE = 40.0
# The key of the Struct under which istiod looks (spec/istio.md A3.8).
IMPERSONATED = "ImpersonatedIdentity"


class IstiodCa:
    """Signs by asking. A `CaClient`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        lifetime: float,
        validity: Callable[[bytes], tuple[float, float]],
        impersonates: bool = False,
        deadline: float = CALL_DEADLINE,
    ) -> None:
        """`lifetime` is what is asked for, in seconds; `validity` reads when a leaf (PEM) counts.

        `impersonates`: a node's proxy asks for others, and says for whom. Without that the server signs for whom it
        knows by the token, whatever the request names (recorded: create-certificate.jsonl).
        """
        self._channel = UnaryChannel(endpoint)
        self._endpoint = endpoint
        self._lifetime = lifetime
        self._validity = validity
        self._impersonates = impersonates
        self._deadline = deadline

    async def open(self) -> None:
        """Reads the roots; whether the server can be reached shows at the first request."""
        self._channel.open()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    async def sign(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """A certificate for `identity`, whose name must be the only one in `csr`."""
        whom = ((IMPERSONATED, str(identity)),) if self._impersonates else ()
        request = CertificateRequest(
            csr=csr.decode("ascii"), validity_duration=int(self._lifetime), metadata=whom
        )
        answer = await self._channel.call(
            CREATE_CERTIFICATE, request.encode(), deadline=self._deadline
        )
        try:
            chain = CertificateResponse.decode(answer).cert_chain
        except NotProtobuf as error:
            raise CaError(f"{self._endpoint} answered with no certificates: {error}") from None
        return self._issued(chain)

    def _issued(self, chain: tuple[str, ...]) -> IssuedCertificate:
        """Leaf first, roots last, intermediates between."""
        if not chain:
            raise CaError(f"chain returned from CA is empty: {self._endpoint}")
        if len(chain) == 1:
            message = "chain returned from CA has one element and so no root"
            raise CaError(f"{message}: {self._endpoint}")
        *leaf_first, roots = (element.encode() for element in chain)
        # An element may lack its last line end.
        certificates = [pem for element in leaf_first for pem in certificates_in(element)]
        joined = b"".join(certificates)
        not_before, not_after = self._validity(joined)
        return IssuedCertificate(
            chain=joined,
            # Rust takes it apart: one that cannot be read must not cost the others.
            roots=on_lines_of_their_own(roots),
            not_before=not_before,
            not_after=not_after,
        )
