"""Variables that upstream knows and this version does nothing about: they are named, never ignored in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ztunnel.environment.variables import Variables

# With the values that ask for nothing which is not so already.
VARIABLES: dict[str, Iterable[str]] = {
    "ALT_XDS_HOSTNAME": (),
    "AUTHZ_POLICY_INFO_LOGGING": ("false",),
    "CLUSTER_DOMAIN": ("cluster.local",),
    "COMPLIANCE_POLICY": ("",),
    "CRL_PATH": ("",),
    "ENABLE_RESPONSE_BAGGAGE": ("true",),
    "INPOD_PORT_REUSE": (),
    "INPOD_UDS": (),
    "LOCALHOST_APP_TUNNEL": ("true",),
    "PREFERED_SERVICE_NAMESPACE": (),
    "PROXY_CONFIG": ("",),
    "TLS12_ENABLED": ("false",),
    "USER_TIMEOUT_ENABLED": ("false",),
    "XDS_ON_DEMAND": ("false",),
    "XDS_ROOT_CA": (),
}
PREFIXES = ("ISTIO_META_", "ISTIO_METAJSON_", "XDS_HEADER_")
# Of those, one that `control_plane.py` reads, and one that asks for nothing unless it is true.
DNS_CAPTURE = "ISTIO_META_DNS_CAPTURE"
READ = {"ISTIO_META_CLUSTER_ID", DNS_CAPTURE}


def not_built(variables: Variables) -> tuple[str, ...]:
    """The names of variables that are set and without effect, in order."""
    found = [name for name, idle in VARIABLES.items() if not _is_idle(variables.get(name), idle)]
    if (variables.get(DNS_CAPTURE) or "").lower() == "true":
        found.append(DNS_CAPTURE)
    found += [n for n in variables.names() if n.startswith(PREFIXES) and n not in READ]
    return tuple(sorted(found))


def _is_idle(value: str | None, idle: Iterable[str]) -> bool:
    return value is None or value in idle
