"""The little mesh that every subject is told about: two workloads, a service, and one stranger's address.

Names, addresses, the local configuration file and the environment, as upstream's dedicated mode
understands them. Text only; counterpart: `namespaces.py`, which makes the addresses real.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TRUST_DOMAIN = "cluster.local"
NAMESPACE = "default"
NETWORK = "10.78.0.0/16"
NEAR_ADDRESS = "10.78.0.1"
FAR_ADDRESS = "10.78.0.2"
OUTSIDE_ADDRESS = "10.78.0.3"
"""On the far side, but not in the mesh: what goes there is passed through as it is."""
SERVICE_ADDRESS = "10.78.9.1"

SERVICE_PORT = 80
APPLICATION_PORT = 8080
HBONE_PORT = 15008
OUTBOUND_PORT = 15001
READY_PORT = 15021
STATS_PORT = 15020
MARK = 1337
CA_PORT = 15012
TOKEN = "a-token-that-the-ca-knows"  # noqa: S105 - known to nobody else, worth nothing anywhere else


@dataclass(frozen=True, kw_only=True)
class Place:
    """One of the two ends."""

    name: str
    address: str
    node: str

    @property
    def identity(self) -> str:
        """The SPIFFE name that the CA signs."""
        return f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{self.name}"

    @property
    def uid(self) -> str:
        """The workload's key in the mesh."""
        return f"Kubernetes//Pod/{NAMESPACE}/{self.name}"


NEAR = Place(name="client", address=NEAR_ADDRESS, node="node-a")
FAR = Place(name="server", address=FAR_ADDRESS, node="node-b")


def local_config(services: int = 1) -> str:
    """The file behind LOCAL_XDS_PATH. Each service leads to the one server."""
    hosts = [f"server{number or ''}.{NAMESPACE}.svc.cluster.local" for number in range(services)]
    names = {
        NEAR: {},
        FAR: {f"{NAMESPACE}/{host}": {SERVICE_PORT: APPLICATION_PORT} for host in hosts},
    }
    whole = {
        "workloads": [_workload(place, services) for place, services in names.items()],
        "services": [
            {
                "name": host.split(".", 1)[0],
                "namespace": NAMESPACE,
                "hostname": host,
                "vips": [f"/{service_address(number)}"],
                "ports": {SERVICE_PORT: APPLICATION_PORT},
            }
            for number, host in enumerate(hosts)
        ],
        "policies": [],
    }
    return yaml.safe_dump(whole, sort_keys=False)


def service_address(number: int) -> str:
    """The address of the n-th service."""
    first = [int(part) for part in SERVICE_ADDRESS.split(".")]
    value = int.from_bytes(bytes(first), "big") + number
    return ".".join(str(byte) for byte in value.to_bytes(4, "big"))


def environment(
    place: Place,
    *,
    config: Path,
    ca_root: Path,
    workers: int,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What a command is told, and nothing else of our own environment."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "PROXY_MODE": "dedicated",
        "PROXY_WORKLOAD_INFO": f"{NAMESPACE}/{place.name}/{place.name}",
        "NODE_NAME": place.node,
        "LOCAL_XDS_PATH": str(config),
        "XDS_ADDRESS": "",
        "CA_ADDRESS": f"https://localhost:{CA_PORT}",
        "CA_ROOT_CA": str(ca_root),
        "AUTH_TOKEN": TOKEN,
        "PACKET_MARK": str(MARK),
        "ZTUNNEL_WORKER_THREADS": str(workers),
        "IPV6_ENABLED": "false",
        # The application is asked from the proxy's own address: the original one lives in the other namespace.
        "ENABLE_ORIG_SRC": "false",
        "ISTIO_META_DNS_CAPTURE": "false",
        # Access logs are equal: there are none.
        "RUST_LOG": "error",
        **(more or {}),
    }


def _workload(place: Place, services: Mapping[str, Mapping[int, int]]) -> dict[str, Any]:
    return {
        "uid": place.uid,
        "name": place.name,
        "namespace": NAMESPACE,
        "serviceAccount": place.name,
        "trustDomain": TRUST_DOMAIN,
        "workloadIps": [place.address],
        "protocol": "HBONE",
        "node": place.node,
        "services": {name: dict(ports) for name, ports in services.items()},
    }
