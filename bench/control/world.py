"""A mesh of any size as the messages of delta ADS: what istiod would send, and one change of it after another.

Bytes only, made before anything is measured. Names have the lengths of real ones: a uid of a pod has 60 to 80.
Counterpart: `istiod.py`, which sends them.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING

from bench.macro import mesh
from ztunnel.wire.discovery import WireResource, WireResponse
from ztunnel.wire.protobuf import bytes_field, integer_field, text_field

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"
# Neither the namespaces' network nor anything that somebody dials.
FIRST_POD = int(ipaddress.ip_address("172.16.0.1"))
FIRST_VIP = int(ipaddress.ip_address("192.168.0.1"))
HBONE = 1
PODS_OF_A_NODE = 100


def base() -> list[WireResource]:
    """The two ends of the traffic, and the service between them."""
    host = f"server.{mesh.NAMESPACE}.svc.cluster.local"
    port = _port(mesh.SERVICE_PORT, mesh.APPLICATION_PORT)
    joined = {f"{mesh.NAMESPACE}/{host}": port}
    vip = _network_address(int(ipaddress.ip_address(mesh.SERVICE_ADDRESS)))
    service = _service("server", mesh.NAMESPACE, host, vip, port)
    return [
        _end(mesh.NEAR, {}),
        _end(mesh.FAR, joined),
        _resource(f"{mesh.NAMESPACE}/{host}", bytes_field(2, service), 0),
    ]


def workloads(count: int, services: int) -> Iterator[WireResource]:
    """Pods, each in one of the services."""
    for number in range(count):
        yield workload(number, services, 0)


def workload(number: int, services: int, edition: int) -> WireResource:
    """One pod; the next edition is the other of two revisions of it, at the same address."""
    belongs = number % max(1, services)
    namespace = f"team-{belongs % 100:03}"
    name = f"application-{belongs:05}-7d9f8b6c5d-{number:06}"
    uid = f"Kubernetes//Pod/{namespace}/{name}"
    message = b"".join(
        (
            text_field(1, name),
            text_field(2, namespace),
            bytes_field(3, _ip(FIRST_POD + number)),
            integer_field(5, HBONE),
            text_field(7, f"application-{belongs:05}"),
            text_field(9, f"node-{number // PODS_OF_A_NODE:05}"),
            text_field(10, f"application-{belongs:05}"),
            text_field(11, f"v{edition % 2}"),
            integer_field(12, 2),
            text_field(13, name),
            text_field(18, "Kubernetes"),
            text_field(20, uid),
            _membership(_service_key(belongs), _port(80, 8080)) if services else b"",
            bytes_field(24, text_field(1, "region-1") + text_field(2, f"zone-{number % 3}")),
        )
    )
    return _resource(uid, bytes_field(1, message), edition)


def services(count: int) -> Iterator[WireResource]:
    """Services with a VIP each."""
    for number in range(count):
        namespace, _, host = _service_key(number).partition("/")
        name = host.partition(".")[0]
        body = _service(
            name, namespace, host, _network_address(FIRST_VIP + number), _port(80, 8080)
        )
        yield _resource(_service_key(number), bytes_field(2, body), 0)


def policies(count: int) -> Iterator[WireResource]:
    """Policies of namespaces: some principals may, on some ports. None is about the traffic that is measured."""
    for number in range(count):
        namespace, name = f"team-{number % 100:03}", f"allow-{number:05}"
        principals = b"".join(
            bytes_field(3, text_field(1, f"cluster.local/ns/{namespace}/sa/application-{each:05}"))
            for each in range(number, number + 5)
        )
        ports = bytes_field(9, b"\x90\x3f")
        clauses = bytes_field(1, bytes_field(2, principals)) + bytes_field(1, bytes_field(2, ports))
        message = b"".join(
            (
                text_field(1, name),
                text_field(2, namespace),
                integer_field(3, 1),
                bytes_field(5, clauses),
            )
        )
        yield WireResource(name=f"{namespace}/{name}", type_url=AUTHORIZATION, value=message)


def response(type_url: str, nonce: str, resources: list[WireResource]) -> bytes:
    """One answer."""
    return WireResponse(type_url=type_url, nonce=nonce, resources=resources).encode()


def _end(place: mesh.Place, joined: dict[str, bytes]) -> WireResource:
    message = b"".join(
        (
            text_field(1, place.name),
            text_field(2, mesh.NAMESPACE),
            bytes_field(3, ipaddress.ip_address(place.address).packed),
            integer_field(5, HBONE),
            text_field(7, place.name),
            text_field(9, place.node),
            text_field(20, place.uid),
            b"".join(_membership(key, port) for key, port in joined.items()),
        )
    )
    return _resource(place.uid, bytes_field(1, message), 0)


def _service(name: str, namespace: str, host: str, vip: bytes, port: bytes) -> bytes:
    head = text_field(1, name) + text_field(2, namespace) + text_field(3, host)
    return head + bytes_field(4, vip) + bytes_field(5, port) + integer_field(11, 1)


def _service_key(number: int) -> str:
    namespace = f"team-{number % 100:03}"
    return f"{namespace}/application-{number:05}.{namespace}.svc.cluster.local"


def _membership(service: str, port: bytes) -> bytes:
    """An entry of `Workload.services`, whose value is a `PortList`."""
    return bytes_field(22, bytes_field(1, service.encode()) + bytes_field(2, bytes_field(1, port)))


def _port(service: int, target: int) -> bytes:
    return integer_field(1, service) + integer_field(2, target)


def _network_address(value: int) -> bytes:
    return bytes_field(2, _ip(value))


def _ip(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _resource(name: str, address: bytes, edition: int) -> WireResource:
    version = hashlib.blake2b(f"{name} {edition}".encode(), digest_size=8).hexdigest()
    return WireResource(name=name, version=version, type_url=ADDRESS, value=address)
