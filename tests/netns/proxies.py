"""Dedicated proxies in pods: `ztunnel proxy ztunnel`, told by its environment and nothing else, certified by a CA.

    town = Town(network, tmp_path)
    client, server = town.pod("client"), town.pod("server")
    with town.running():
        client.dials((server.address, 8080))

Counterpart: `pods.py`, whose nodes are told by a file. Whoever has no proxy is in `serving.py`.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from tests.netns.capture import NODE_MARK
from tests.netns.pods import PodNode, Pods
from tests.support.istio_ca import IstioCa
from tests.support.nodes import START_DEADLINE, bound

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host, Network
    from tests.netns.pods import Pod
    from tests.support.nodes import Fields

AUTHORITY = "10.77.0.200"


class PodProxy(PodNode):
    """A node that is told by its environment and nothing else."""

    environment: dict[str, str]

    def start(self) -> None:
        """Start it in its pod."""
        self.host.call(self._start)

    def _start(self) -> None:
        if not self._mesh.path.exists():
            self._mesh.write()
        us = self._mesh.edit(self.workload)
        environment = {
            "PROXY_MODE": "dedicated",
            "PROXY_WORKLOAD_INFO": f"{us['namespace']}/{us['name']}/{us['serviceAccount']}",
            "XDS_ADDRESS": "",
            "LOCAL_XDS_PATH": str(self._mesh.path),
            "PACKET_MARK": str(NODE_MARK),
            "ZTUNNEL_WORKER_THREADS": "2",
            "IPV6_ENABLED": "false",
            "LOG_FORMAT": "json",
            **self.environment,
        }
        self.launch("proxy", "ztunnel", environment=environment)
        self.bound = bound(self.access.wait_for("ready", within=START_DEADLINE))


class ProxyPods(Pods):
    """Pods whose nodes are dedicated proxies."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self.environment: dict[str, str] = {}
        """Of all of them, beside what each needs for itself."""

    def node(self, host: Host, workload: str, **settings: object) -> PodNode:
        """A proxy for the pod."""
        proxy = PodProxy(host, self.mesh, workload, **settings)
        proxy.environment = self.environment
        return proxy

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start every proxy, all at once; end them all."""
        if not self.mesh.path.exists():
            self.mesh.write()
        with contextlib.ExitStack() as nodes, ThreadPoolExecutor(len(self.all)) as starting:
            for pod in self.all:
                nodes.push(pod.node.__exit__)
            for started in [starting.submit(pod.node.start) for pod in self.all]:
                started.result()
            yield


class Town:
    """Pods with proxies, machines without, and the authority that all of them believe."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.ca = IstioCa(folder, host=AUTHORITY)
        self.pods = ProxyPods(network, folder)
        self.mesh = self.pods.mesh
        self._authority = network.host(AUTHORITY)

    def __enter__(self) -> Self:
        """The authority serves; proxies start with `running`."""
        self._authority.call(self.ca.__enter__)
        return self

    def __exit__(self, *_: object) -> None:
        """The authority serves no longer, and the mesh gives back what it holds."""
        self.ca.__exit__()
        self.pods.__exit__()

    @contextlib.contextmanager
    def running(self, **environment: str) -> Iterator[None]:
        """Every proxy, with these variables more than it needs."""
        self.pods.environment.update(self.ca.environment(), **environment)
        with self.pods.running():
            yield

    def pod(self, workload: str, **more: object) -> Pod:
        """A pod with a proxy; `more` goes into the workload's entry."""
        pod = self.pods.add(workload)
        self.mesh.edit(workload).update(_described(workload), **more)
        return pod

    def machine(self, workload: str, *, protocol: str = "TCP", **more: Any) -> Host:
        """A machine that the mesh knows and that has no proxy."""
        host = self.network.host(f"10.77.0.{len(self.network.ports) + 1}")
        entry = {**_described(workload), **more}
        self.mesh.workload(workload, workloadIps=[host.address], protocol=protocol, **entry)
        return host

    def context(self, account: str, *, server: bool = False) -> ssl.SSLContext:
        """TLS of a peer that is no proxy: as a client, or as a server that asks for no certificate."""
        leaf = self.ca.leaf(f"spiffe://cluster.local/ns/default/sa/{account}")
        folder = self.folder / f"{account}-peer"
        return leaf.server_context(folder) if server else leaf.client_context(folder)


def _described(workload: str) -> Fields:
    """As upstream's fixture describes all of its workloads."""
    return {
        "workloadName": workload,
        "workloadType": "deployment",
        "canonicalName": workload,
        "canonicalRevision": "v1",
        "clusterId": "Kubernetes",
        "locality": {"region": "r1", "zone": "z1", "subzone": ""},
    }
