"""Builders of what istiod serves: workloads, services and policies as the bytes of their messages (control.md §6).

    web = mesh.workload("web", ip="10.0.0.7", services={"shop/web.shop.svc.cluster.local": {80: 8080}})

Only the fields that tests are about; who needs another one makes the bytes with `resources.address`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ztunnel.testing.istiod.resources import Resource, address, authorization
from ztunnel.wire.protobuf import bytes_field, integer_field, text_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLUSTER = "Kubernetes"
ALLOW, DENY = 0, 1
GLOBAL, NAMESPACE, SELECTOR = 0, 1, 2
_POD = 2
_SCOPES = {"global": GLOBAL, "namespace": NAMESPACE, "selector": SELECTOR}


def workload(
    name: str,
    *,
    namespace: str = "default",
    account: str | None = None,
    ip: str | Sequence[str] = (),
    node: str = "",
    hbone: bool = True,
    healthy: bool = True,
    services: Mapping[str, Mapping[int, int]] | None = None,
    policies: Sequence[str] = (),
    network: str = "",
) -> Resource:
    """A pod. Its account is its name, if none is given; `services` are names with service port to own port."""
    uid = f"{CLUSTER}//Pod/{namespace}/{name}"
    ips = [ip] if isinstance(ip, str) else ip
    body = text_field(1, name) + text_field(2, namespace)
    body += b"".join(bytes_field(3, ipaddress.ip_address(each).packed) for each in ips)
    body += text_field(4, network) + integer_field(5, hbone) + text_field(7, account or name)
    body += text_field(9, node) + text_field(10, name) + text_field(11, "latest")
    body += integer_field(12, _POD) + text_field(13, name)
    body += b"".join(bytes_field(16, policy.encode()) for policy in policies)
    body += integer_field(17, not healthy) + text_field(18, CLUSTER) + text_field(20, uid)
    for service, ports in (services or {}).items():
        entry = bytes_field(1, service.encode()) + bytes_field(2, _ports(1, ports))
        body += bytes_field(22, entry)
    return address(uid, bytes_field(1, body))


def service(
    name: str,
    *,
    namespace: str = "default",
    vip: str | Sequence[str] = (),
    ports: Mapping[int, int] | None = None,
    hostname: str | None = None,
    network: str = "",
) -> Resource:
    """A service of the cluster; ports are service port to target port."""
    hostname = hostname or f"{name}.{namespace}.svc.cluster.local"
    vips = [vip] if isinstance(vip, str) else vip
    body = text_field(1, name) + text_field(2, namespace) + text_field(3, hostname)
    for each in vips:
        packed = bytes_field(2, ipaddress.ip_address(each).packed)
        body += bytes_field(4, text_field(1, network) + packed)
    body += _ports(5, ports or {}) + integer_field(11, 1)
    return address(f"{namespace}/{hostname}", bytes_field(2, body))


def policy(
    name: str,
    *,
    namespace: str = "default",
    scope: str = "namespace",
    deny: bool = False,
    principals: Sequence[str] = (),
    not_principals: Sequence[str] = (),
    ports: Sequence[int] = (),
) -> Resource:
    """One rule with what is given, all of which must match; nothing given is a policy that never matches.

    `scope`: `global`, `namespace` or `selector`. Principals are whole, without `spiffe://`.
    """
    clauses = b""
    for number, values in ((3, principals), (4, not_principals)):
        if values:
            texts = [bytes_field(number, bytes_field(1, each.encode())) for each in values]
            clauses += _clause(b"".join(texts))
    if ports:
        packed = b"".join(integer_field(9, port) for port in ports)
        clauses += _clause(packed)
    body = text_field(1, name) + text_field(2, namespace)
    body += integer_field(3, _SCOPES[scope]) + integer_field(4, DENY if deny else ALLOW)
    if clauses:
        body += bytes_field(5, clauses)
    return authorization(f"{namespace}/{name}", body)


def strict() -> Resource:
    """What istiod makes of any PeerAuthentication that is STRICT: whoever has no identity is denied."""
    nobody = _clause(bytes_field(4, bytes_field(4, b"")))
    name, namespace = "istio_converted_static_strict", "istio-system"
    body = text_field(1, name) + text_field(2, namespace)
    body += integer_field(3, SELECTOR) + integer_field(4, DENY) + bytes_field(5, nobody)
    return authorization(f"{namespace}/{name}", body)


def broken_address(name: str = "broken") -> Resource:
    """An Address that no decoder takes: its length is longer than it is."""
    return address(name, b"\x0a\x7f")


def broken_policy(name: str = "default/broken") -> Resource:
    """The same of an Authorization."""
    return authorization(name, b"\x0a\x7f")


def without_payload(name: str = "empty") -> Resource:
    """A resource without its `resource`."""
    return address(name, None)


def _clause(match: bytes) -> bytes:
    """`Rule.clauses` with one match."""
    return bytes_field(1, bytes_field(2, match))


def _ports(number: int, ports: Mapping[int, int]) -> bytes:
    """`Port` messages under a field's number; of a `PortList` it is 1."""
    return b"".join(
        bytes_field(number, integer_field(1, port) + integer_field(2, target))
        for port, target in ports.items()
    )
