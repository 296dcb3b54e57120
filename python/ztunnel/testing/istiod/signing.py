"""What istiod's CA makes of a request: whose certificate, for how long, or why not (istio.md A3.8).

Pure decisions; `server.py` signs. The texts of the refusals are the recorded ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status

from ztunnel.errors import IdentityError
from ztunnel.identity.spiffe import Identity

if TYPE_CHECKING:
    from ztunnel.testing.istiod.callers import Caller
    from ztunnel.testing.istiod.cluster import Cluster
    from ztunnel.wire.citadel import CertificateRequest

IMPERSONATED = "ImpersonatedIdentity"
DEFAULT_TTL = 86_400.0
# 90 days: MAX_WORKLOAD_CERT_TTL's default.
MAX_TTL = 7_776_000.0
# 2 minutes: a leaf that is asked for 60 s lives for 180, of which 120 lie in the past (recorded).
BACKDATING = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A certificate that may be signed."""

    identity: str
    """Which its SAN will name, whatever the request's CSR names."""
    seconds: float
    impersonated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this CA was set up."""

    trust_domain: str = "cluster.local"
    trusted_node_accounts: frozenset[str] = frozenset({"istio-system/ztunnel"})
    """`namespace/account` each: CA_TRUSTED_NODE_ACCOUNTS."""
    max_ttl: float = MAX_TTL
    """Seconds."""


def decide(request: CertificateRequest, caller: Caller, cluster: Cluster, rules: Rules) -> Grant:
    """What to sign; `GRPCError` if nothing."""
    wanted = dict(request.metadata).get(IMPERSONATED)
    if wanted is not None:
        _authorize_node(wanted, caller, cluster, rules)
    identity = wanted or (
        f"spiffe://{rules.trust_domain}/ns/{caller.namespace}/sa/{caller.account}"
    )
    seconds = float(request.validity_duration)
    if seconds > rules.max_ttl:
        raise GRPCError(
            Status.INVALID_ARGUMENT,
            f"CSR signing error (requested TTL {_go_duration(seconds)} is greater than the max allowed "
            f"TTL {_go_duration(rules.max_ttl)})",
        )
    return Grant(
        identity=identity,
        seconds=seconds if seconds > 0 else DEFAULT_TTL,
        impersonated=wanted is not None,
    )


def _authorize_node(wanted: str, caller: Caller, cluster: Cluster, rules: Rules) -> None:
    """Whoever asks for others must be a node proxy, and one of those others must be on its node.

    The trust domain is not looked at. The refusal never says which rule it was.
    """
    refusal = GRPCError(Status.UNAUTHENTICATED, "request impersonation authentication failure")
    if f"{caller.namespace}/{caller.account}" not in rules.trusted_node_accounts:
        raise refusal
    try:
        identity = Identity.parse(wanted)
    except IdentityError:
        raise refusal from None
    pods = list(cluster.pods())
    own = [p for p in pods if (p.namespace, p.account, p.name) == _key(caller)]
    nodes = {pod.node for pod in own if pod.node}
    asked = (identity.namespace, identity.service_account)
    if not any((pod.namespace, pod.account) == asked and pod.node in nodes for pod in pods):
        raise refusal


def _key(caller: Caller) -> tuple[str, str, str]:
    return caller.namespace, caller.account, caller.pod


def _go_duration(seconds: float) -> str:
    """Whole seconds as Go prints a `time.Duration`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
