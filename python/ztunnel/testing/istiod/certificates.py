"""istiod's CA: the roots that it publishes, who signs, and what was asked of it (istio.md A3.8).

No sockets: `server.py` hands requests in. `signing.py` decides, `answers.py` is what tests make it answer instead.
"""

from __future__ import annotations

import inspect
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError

from ztunnel.testing.istio_ca import Authority
from ztunnel.testing.istiod import answers
from ztunnel.testing.istiod.issuing import Signing
from ztunnel.testing.istiod.signing import BACKDATING, Grant, Rules, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from ztunnel.testing.istiod.answers import Answer, Chain
    from ztunnel.testing.istiod.callers import Caller
    from ztunnel.testing.istiod.cluster import Cluster
    from ztunnel.wire.citadel import CertificateRequest

# Of requests, for tests to look at.
REMEMBERED = 10_000
# Seconds, both ways: a control plane is older than its clients, and a client's clock may be wrong by an hour.
SERVER_LIFE = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A request, and what came of it."""

    request: CertificateRequest
    caller: Caller
    grant: Grant | None
    """None: it was refused."""


class Certificates:
    """The authority behind the same port as the mesh."""

    def __init__(self, cluster: Cluster, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.trusted: list[Authority] = [Authority()]
        """The roots that are published, in order."""
        self.signer = self.trusted[0]
        """A root of these, or what one of them vouches for."""
        self.between: tuple[Authority, ...] = ()
        """Intermediates from the signer up to its root, without the root."""
        self.lifetime: float | None = None
        """Seconds that it grants, if not what is asked for."""
        self.backdating = BACKDATING
        """Seconds that a leaf is older than its making. Renewals are due at half-life, so short lives need none."""
        self.answer: Answer = answers.honest
        self.seen: deque[Signed] = deque(maxlen=REMEMBERED)
        self.changed: Callable[[], None] = lambda: None
        """Called after each request."""
        self._cluster = cluster

    @property
    def bundle(self) -> str:
        """All published roots, in one text."""
        return "".join(root.pem for root in self.trusted)

    def add_root(self) -> Authority:
        """First step of a rotation: a new root is trusted, and the old one still signs."""
        root = Authority()
        self.trusted.append(root)
        return root

    def sign_with(self, root: Authority, *, intermediates: int = 0) -> None:
        """Second step: this root signs, or the last of so many intermediates below it."""
        between: list[Authority] = []
        signer = root
        for _ in range(intermediates):
            signer = signer.intermediate()
            between.insert(0, signer)
        self.signer, self.between = signer, tuple(between)

    def drop_root(self, root: Authority) -> None:
        """Last step: it is published no longer."""
        self.trusted.remove(root)

    async def create(self, request: CertificateRequest, caller: Caller) -> Chain:
        """One request's `cert_chain`; `GRPCError` if it is refused."""
        try:
            grant = decide(request, caller, self._cluster, self.rules)
        except GRPCError:
            self._note(Signed(request=request, caller=caller, grant=None))
            raise
        self._note(Signed(request=request, caller=caller, grant=grant))
        signing = Signing(
            request=request,
            identity=grant.identity,
            seconds=grant.seconds if self.lifetime is None else self.lifetime,
            backdating=self.backdating,
            signer=self.signer,
            above=(*(each.pem for each in self.between), self.bundle),
        )
        answer = self.answer(signing)
        return await answer if inspect.isawaitable(answer) else answer

    def _note(self, signed: Signed) -> None:
        self.seen.append(signed)
        self.changed()

    def server_chain(self, key: Any, names: list[x509.GeneralName]) -> str:
        """A certificate for the server's own port, with what stands between it and the root."""
        leaf = self.signer.sign(key, names, SERVER_LIFE, backdating=SERVER_LIFE)
        return leaf + "".join(each.pem for each in self.between)
