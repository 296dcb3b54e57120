"""`ztunnel proxy ztunnel` under upstream's environment: two pods, captured traffic, an `istio.v1.auth` CA."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.netns.capture import NODE_MARK
from tests.netns.pods import Pod, PodNode, Pods
from tests.support.istio_ca import IstioCa
from tests.support.nodes import START_DEADLINE, bound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host, Network

pytestmark = pytest.mark.root


class PodProxy(PodNode):
    """A node that is told by its environment and nothing else."""

    environment: dict[str, str]

    def start(self) -> None:
        """Start it in its pod."""
        self.host.call(self._start)

    def _start(self) -> None:
        if not self._mesh.path.exists():
            self._mesh.write()
        environment = {
            "PROXY_MODE": "dedicated",
            "PROXY_WORKLOAD_INFO": f"default/{self.workload}/{self.workload}",
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

    environment: dict[str, str]

    def node(self, host: Host, workload: str, **settings: object) -> PodNode:
        proxy = PodProxy(host, self.mesh, workload, **settings)
        proxy.environment = self.environment
        return proxy


@pytest.fixture
def two(network: Network, tmp_path: Path) -> Iterator[tuple[Pod, Pod, ProxyPods, IstioCa]]:
    """A client and a server, running."""
    authority = network.host("10.77.0.200")
    with ProxyPods(network, tmp_path) as pods:
        ca = IstioCa(tmp_path, host=authority.address)
        authority.call(ca.__enter__)
        try:
            pods.environment = ca.environment()
            client, server = pods.add("client"), pods.add("server")
            pods.mesh.service("web", {80: 8080}, "server")
            with pods.running():
                yield client, server, pods, ca
        finally:
            ca.__exit__()


def test_captured_traffic_goes_through_two_proxies_with_certificates_of_the_ca(
    two: tuple[Pod, Pod, ProxyPods, IstioCa],
) -> None:
    client, server, pods, ca = two
    vip = pods.mesh.vip("web.default.svc.cluster.local")
    with server.listens(8080) as application:
        near, far = application.pair(lambda: client.dials((vip, 80)))
        near.says(b"through the tunnel").finishes()
        far.says(b"and back").finishes()
        assert far.hears().data == b"through the tunnel"
        assert near.hears().data == b"and back"
    line = client.node.access.wait_for("connection complete", direction="outbound")
    assert line["src.identity"] == "spiffe://cluster.local/ns/default/sa/client"
    assert line["dst.identity"] == "spiffe://cluster.local/ns/default/sa/server"
    assert line["dst.service"] == "web.default.svc.cluster.local"
    seen = server.node.metrics()
    assert seen.total(
        "istio_tcp_connections_opened_total",
        reporter="destination",
        connection_security_policy="mutual_tls",
        destination_service="web.default.svc.cluster.local",
    )
    names = {asked.headers["clusterid"] for asked in ca.server.asked}
    assert names == {"Kubernetes"}
    assert len(ca.server.asked) == 2
    assert client.node.get("readiness", "/healthz/ready") == "ready\n"
    client.node.signal(signal.SIGTERM)
    assert client.node.wait() == 0
