"""`ztunnel proxy ztunnel` under upstream's environment: two pods, captured traffic, an `istio.v1.auth` CA."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.netns.proxies import ProxyPods
from tests.support import istioctl
from tests.support.apps import through_socks5
from tests.support.http import ask
from tests.support.istio_ca import IstioCa

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from tests.netns.namespaces import Network

pytestmark = pytest.mark.root

DUMP = Path(__file__).parents[1] / "vectors" / "config_dump" / "upstream.json"
CLIENT = "spiffe://cluster.local/ns/default/sa/client"


class Two:
    """A client, a server and their authority; the proxies start with `running`."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.authority = network.host("10.77.0.200")
        self.ca = IstioCa(folder, host=self.authority.address)
        self.pods = ProxyPods(network, folder)
        self.client, self.server = self.pods.add("client"), self.pods.add("server")
        name = self.pods.mesh.service("web", {80: 8080}, "server")
        self.web = (self.pods.mesh.vip(name), 80)

    @contextlib.contextmanager
    def running(self, **environment: str) -> Iterator[None]:
        """Both proxies, with these variables more than they need."""
        self.pods.environment.update(self.ca.environment(), **environment)
        with self.pods.running():
            yield

    def says_hello(self, dial: Callable[[], socket.socket]) -> None:
        """Bytes and FIN both ways."""
        with self.server.listens(8080) as application:
            near, far = application.pair(dial)
            near.says(b"through the tunnel").finishes()
            far.says(b"and back").finishes()
            assert far.hears().data == b"through the tunnel"
            assert near.hears().data == b"and back"


@pytest.fixture
def two(network: Network, tmp_path: Path) -> Iterator[Two]:
    """The authority serves, the proxies do not run yet."""
    two = Two(network, tmp_path)
    with two.pods:
        two.authority.call(two.ca.__enter__)
        try:
            yield two
        finally:
            two.ca.__exit__()


def test_captured_traffic_goes_through_two_proxies_with_certificates_of_the_ca(two: Two) -> None:
    with two.running():
        two.says_hello(lambda: two.client.dials(two.web))
        line = two.client.node.access.wait_for("connection complete", direction="outbound")
        assert line["src.identity"] == "spiffe://cluster.local/ns/default/sa/client"
        assert line["dst.identity"] == "spiffe://cluster.local/ns/default/sa/server"
        assert line["dst.service"] == "web.default.svc.cluster.local"
        assert two.server.node.metrics().total(
            "istio_tcp_connections_opened_total",
            reporter="destination",
            connection_security_policy="mutual_tls",
            destination_service="web.default.svc.cluster.local",
        )
        asked = two.ca.server.asked
        assert [one.headers["clusterid"] for one in asked] == ["Kubernetes"] * 2
        assert two.client.node.get("readiness", "/healthz/ready") == "ready\n"


def test_the_way_to_the_ca_is_not_the_proxys_own(two: Two) -> None:
    with two.running(CONNECTION_TERMINATION_DEADLINE="1h"):
        two.says_hello(lambda: two.client.dials(two.web))
        # A captured connection to the authority would still be open, and waited for.
        assert two.client.node.terminate() == 0
        (line,) = two.client.node.access.all("connection complete")
        assert line["dst.service"] == "web.default.svc.cluster.local"
        assert two.client.node.access.all("drained")


def test_an_authority_that_comes_late_is_asked_again(two: Two) -> None:
    two.ca.stops()
    with two.running():
        failed = two.client.node.access.wait_for("no new certificate; asking again")
        assert "no connection to 10.77.0.200:" in failed["error"]
        assert two.client.node.get("readiness", "/healthz/ready") == "ready\n"
        two.ca.starts()
        for pod in (two.client, two.server):
            pod.node.access.wait_for("certificate installed")
        two.says_hello(lambda: two.client.dials(two.web))


def test_istioctl_reads_a_dedicated_proxy(two: Two) -> None:
    """With upstream's sections, keys and ports, and two of ours; what the sections hold is told elsewhere."""
    upstream = json.loads(DUMP.read_bytes())
    with two.running():
        host = two.client.host
        answer = host.call(ask, ("127.0.0.1", 15000), "GET", "/config_dump")
        read = istioctl.read(answer.body)
        assert list(read) == sorted([*upstream, "configs", "workloadState"])
        for section in ("config", "version"):
            assert list(read[section]) == list(upstream[section])
        assert read["config"]["adminAddr"] == {"Localhost": [False, 15000]}
        assert read["config"]["proxyMode"] == "Dedicated"
        rows = istioctl.certificate_table(read, datetime.now(UTC)).splitlines()[1:]
        assert rows[0].split()[:4] == [CLIENT, "Leaf", "Available", "true"]
        assert host.call(ask, ("127.0.0.1", 15000), "POST", "/quitquitquit").status == 200
        assert two.client.node.wait() == 0


def test_socks5_is_offered_on_upstreams_port(two: Two) -> None:
    with two.running(UNSTABLE_ENABLE_SOCKS5="true"):
        proxy = two.client.node.bound["socks5"]
        assert proxy == ("127.0.0.1", 15080)
        two.says_hello(lambda: two.client.host.call(through_socks5, proxy, *two.web))


def test_the_post_quantum_policy_carries_traffic_and_says_what_it_does_not_cover(two: Two) -> None:
    with two.running(COMPLIANCE_POLICY="pqc"):
        two.says_hello(lambda: two.client.dials(two.web))
        two.client.node.access.wait_for(re.compile("^COMPLIANCE_POLICY=pqc holds between proxies"))


@pytest.mark.parametrize(("account", "allowed"), [("client", True), ("other", False)])
def test_a_policy_in_upstreams_spelling_holds(two: Two, account: str, allowed: bool) -> None:
    policy = (
        "{name: one, namespace: default, scope: Namespace, action: Allow, dryRun: false,"
        f" rules: [[[{{principals: [!Exact cluster.local/ns/default/sa/{account}]}}]]]}}"
    )
    mesh = two.pods.mesh
    mesh.write()
    mesh.write_text(mesh.path.read_text().replace('"policies": []', f'"policies": [{policy}]'))
    with two.running():
        if allowed:
            two.says_hello(lambda: two.client.dials(two.web))
        else:
            assert two.client.tries(two.web).data == b""
            line = two.server.node.access.wait_for(direction="inbound")
            assert line["error"].endswith("allow policies exist, but none allowed")
