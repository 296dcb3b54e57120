"""What the control plane is told of our node: ProxyConfig's metadata and `ISTIO_META_*` (spec/control.md §2.4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ztunnel.environment import table
from ztunnel.environment.kinds import DNS_ADDRESS
from ztunnel.environment.variables import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztunnel.document.checks import Json
    from ztunnel.environment.config import Loopback
    from ztunnel.environment.variables import Variables


def texts(variables: Variables, configured: Mapping[str, str]) -> dict[str, str]:
    """The configured ones without their prefix, under those of the environment; in order of their names."""
    plain = {name.removeprefix(table.METADATA): value for name, value in configured.items()}
    return dict(sorted((plain | dict(variables.with_prefix(table.METADATA))).items()))


def typed(variables: Variables) -> tuple[tuple[str, Json], ...]:
    """`ISTIO_METAJSON_*`; one that is no JSON is complained of and left out."""
    found = []
    for name, text in variables.with_prefix(table.JSON_METADATA):
        try:
            found.append((name, json.loads(text)))
        except (ValueError, RecursionError):
            variables.complaints.append(f"not JSON, and left out: {table.JSON_METADATA}{name}")
    return tuple(found)


def wants_dns_proxy(metadata: Mapping[str, str]) -> bool:
    """Unset is yes; whatever is not `true` is no."""
    return metadata.get("DNS_CAPTURE", "true").lower() == "true"


def dns_address(variables: Variables, metadata: Mapping[str, str]) -> Loopback | str:
    """Where the DNS proxy is to listen, whichever of the sources says so."""
    variables.values[table.META_DNS_PROXY_ADDR.name] = None
    text = metadata.get("DNS_PROXY_ADDR")
    if text is None:
        return table.DNS_DEFAULT
    try:
        found = DNS_ADDRESS.read(text)
    except ValueError:
        name, reason = table.META_DNS_PROXY_ADDR.name, f"must be {DNS_ADDRESS.allowed}"
        if variables.get(name) is not None:
            variables.mistake(name, reason)
        else:
            value = shown("DNS_PROXY_ADDR", text)
            variables.mistakes.append(f"invalid proxy metadata DNS_PROXY_ADDR={value} ({reason})")
        return table.DNS_DEFAULT
    variables.values[table.META_DNS_PROXY_ADDR.name] = found
    return found
