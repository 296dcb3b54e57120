"""What istiod serves: a resource as its bytes, and what the server itself must know of it to answer requests.

The bytes go out as they are; only the few fields that decide who gets a resource are read here (spec/control.md
§6.1, istio.md A3.5). Counterparts: `mesh.py`, which writes such messages, and `cluster.py`, which keeps them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ztunnel.testing.istiod.xxh64 import content_version
from ztunnel.wire.discovery import WireResource
from ztunnel.wire.protobuf import NotProtobuf, fields

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"
# The order of a push (istio.md A3.4) and of a client's first requests (spec/control.md §4.3).
TYPES = (ADDRESS, AUTHORIZATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the CA's node authorizer knows of a workload."""

    namespace: str
    account: str
    name: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an Address says that matters to the server; empty for everything else, and for what cannot be read."""

    aliases: tuple[str, ...] = ()
    """`network/ip` of each address, `network/ip/length` of a block of them."""
    node: str = ""
    """Where a workload runs."""
    services: tuple[str, ...] = ()
    """The names of the services that a workload belongs to."""
    pod: Pod | None = None
    is_service: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of the cluster."""

    type_url: str
    name: str
    value: bytes | None
    """None: a resource without a payload, which is a mistake that clients must bear."""
    version: str = ""
    facts: Facts = field(default_factory=Facts)

    def wire(self, *, aliases: bool) -> WireResource:
        """As it is sent; istiod names aliases on demand only."""
        return WireResource(
            name=self.name,
            version=self.version,
            aliases=self.facts.aliases if aliases else (),
            type_url=self.type_url,
            value=self.value,
        )


def address(name: str, value: bytes | None, *, version: str | None = None) -> Resource:
    """An Address of these bytes, be they one or not; its version is istiod's, unless it is given."""
    if version is None:
        version = content_version(value or b"")
    return Resource(
        type_url=ADDRESS, name=name, value=value, version=version, facts=_facts(value or b"")
    )


def authorization(name: str, value: bytes | None) -> Resource:
    """An Authorization of these bytes; istiod gives these no version."""
    return Resource(type_url=AUTHORIZATION, name=name, value=value)


def received(found: WireResource, type_url: str) -> Resource:
    """A resource that some istiod has sent, with the version that it gave."""
    if type_url == ADDRESS:
        return address(found.name, found.value, version=found.version)
    return Resource(type_url=type_url, name=found.name, value=found.value, version=found.version)


def _facts(value: bytes) -> Facts:
    try:
        for number, body in fields(value):
            if number == 1 and isinstance(body, bytes):
                return _workload(body)
            if number == 2 and isinstance(body, bytes):
                return _service(body)
    except (NotProtobuf, UnicodeDecodeError, ValueError):
        # A test's broken resource: it is served by its name and nothing else.
        return Facts()
    return Facts()


def _workload(body: bytes) -> Facts:
    texts = dict.fromkeys((1, 2, 4, 7, 9, 20), "")
    ips: list[str] = []
    services: list[str] = []
    for number, value in _parts(body):
        if number in texts:
            texts[number] = value.decode()
        elif number == 3:
            ips.append(str(ipaddress.ip_address(value)))
        elif number == 22:
            services.append(dict(_parts(value)).get(1, b"").decode())
    name, namespace, network, account, node, uid = (texts[n] for n in (1, 2, 4, 7, 9, 20))
    is_pod = "//Pod/" in uid
    return Facts(
        aliases=tuple(f"{network}/{ip}" for ip in ips),
        node=node,
        services=tuple(services),
        # `default` is what an empty account means (spec/control.md §5.1).
        pod=Pod(namespace=namespace, account=account or "default", name=name, node=node)
        if is_pod
        else None,
    )


def _service(body: bytes) -> Facts:
    aliases = [_alias(value) for number, value in _parts(body) if number == 4]
    return Facts(aliases=tuple(aliases), is_service=True)


def _alias(network_address: bytes) -> str:
    """The key of a `NetworkAddress`; a length that makes one address of it is not named."""
    network, ip, length = "", "", None
    for number, value in fields(network_address):
        match number, value:
            case 1, bytes():
                network = value.decode()
            case 2, bytes():
                ip = str(ipaddress.ip_address(value))
            case 3, int():
                length = value
            case _:
                pass
    whole = length is None or length == ipaddress.ip_address(ip).max_prefixlen
    return f"{network}/{ip}" if whole else f"{network}/{ip}/{length}"


def _parts(message: bytes) -> Iterator[tuple[int, bytes]]:
    for number, value in fields(message):
        if isinstance(value, bytes):
            yield number, value
