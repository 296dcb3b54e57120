"""Upstream's namespace tests by their names: plain ways, balancing, shutdown (spec/dataplane.md §17).

Each proxy is its pod's own, so what upstream tests with a proxy for several pods has another home; the map is
docs/development/upstream-tests.md. Waypoints and gateways: test_upstream_waypoints.py. Refusals:
test_upstream_refusals.py.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from tests.netns.counting import counts
from tests.netns.namespaces import Network
from tests.netns.proxies import Town
from tests.netns.serving import ECHO_PORT, HELLO, asks, echo, serving
from tests.support.apps import End, Heard, direct
from tests.support.nodes import HBONE_PORT, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from socket import socket

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
REMOTE = "spiffe://cluster.local/ns/default/sa/remote"


class Ways(Town):
    """A client and two servers with proxies on two nodes, and two machines without."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self.client = self.pod("client", node="one")
        self.server = self.pod("server", node="one")
        self.remote = self.pod("remote", node="two")
        self.plain, self.outsider = self.machine("plain"), self.machine("outsider")
        self.web = self.mesh.service("web", {80: ECHO_PORT}, "server")
        services = {f"default/{self.web}": {80: ECHO_PORT}}
        self.mesh.edit("remote")["services"] = services
        # Its target port has a name: 0 in the service, a number at each endpoint.
        self.named = self.mesh.service("named", {80: 0}, "server")
        self.mesh.edit("server")["services"][f"default/{self.named}"] = {80: ECHO_PORT}


@pytest.fixture(scope="module")
def ways(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Everything runs, and every server echoes."""
    with Network() as network, Ways(network, tmp_path_factory.mktemp("ways")) as ways:
        hosts = (ways.server.host, ways.remote.host, ways.plain)
        with (
            ways.running(ENABLE_ORIG_SRC="false", CONNECTION_TERMINATION_DEADLINE="60s"),
            contextlib.ExitStack() as stack,
        ):
            for host in hosts:
                stack.enter_context(serving(host, echo(host)))
            yield ways


def says_hello(connection: socket) -> str:
    """One exchange, finished on both sides; gives the client's end as it is logged."""
    with connection:
        name = "{}:{}".format(*connection.getsockname())
        assert End(connection).says(HELLO).finishes().hears() == Heard(HELLO * 2, "FIN")
        return name


def test_server_uncaptured_dedicated(ways: Ways) -> None:
    with counts(ways.client.node, reporter="source", destination_workload="plain"):
        name = says_hello(ways.client.dials((ways.plain.address, ECHO_PORT)))
    line = ways.client.node.access.wait_for("connection complete", src_addr=name)
    assert (line["direction"], line["bytes_sent"], line["bytes_recv"]) == ("outbound", 11, 22)
    assert (line["src.workload"], line["dst.workload"]) == ("client", "plain")
    assert line["dst.addr"] == f"{ways.plain.address}:{ECHO_PORT}"
    assert not {"src.identity", "dst.identity", "dst.hbone_addr", "error"} & line.keys()


def test_client_uncaptured_dedicated(ways: Ways) -> None:
    """What upstream's name says; its body is the test before once more."""
    with counts(ways.server.node, reporter="destination", source_workload="outsider"):
        address = (ways.server.address, ECHO_PORT)
        name = says_hello(ways.outsider.call(direct, address))
    line = ways.server.node.access.wait_for("connection complete", src_addr=name)
    assert (line["direction"], line["bytes_sent"], line["bytes_recv"]) == ("inbound", 22, 11)
    assert (line["src.workload"], line["dst.workload"]) == ("outsider", "server")
    assert line["dst.addr"] == f"{ways.server.address}:{ECHO_PORT}"
    assert not {"src.identity", "dst.identity", "dst.hbone_addr", "error"} & line.keys()


def test_cross_node_captured_dedicated(ways: Ways) -> None:
    labels = {
        "source_workload": "client",
        "destination_workload": "remote",
        "source_principal": CLIENT,
        "destination_principal": REMOTE,
        "connection_security_policy": "mutual_tls",
    }
    target, after = f"{ways.remote.address}:{ECHO_PORT}", len(ways.remote.node.access)
    with (
        counts(ways.client.node, reporter="source", **labels),
        counts(ways.remote.node, reporter="destination", **labels),
    ):
        name = says_hello(ways.client.dials((ways.remote.address, ECHO_PORT)))
    outbound = ways.client.node.access.wait_for("connection complete", src_addr=name)
    # The proxy in between has a port of its own; the connection is told by what came in.
    inbound = ways.remote.node.access.wait_for("connection complete", after=after)
    assert (outbound["direction"], inbound["direction"]) == ("outbound", "inbound")
    for line, sent, received in ((outbound, 11, 22), (inbound, 22, 11)):
        assert (line["bytes_sent"], line["bytes_recv"]) == (sent, received)
        assert (line["src.identity"], line["dst.identity"]) == (CLIENT, REMOTE)
        assert line["dst.addr"] == f"{ways.remote.address}:{HBONE_PORT}"
        assert line["dst.hbone_addr"] == target
        assert "error" not in line


def test_service_loadbalancing(ways: Ways) -> None:
    vip = (ways.mesh.vip(ways.web), 80)
    labels = {"destination_service": ways.web, "connection_security_policy": "mutual_tls"}
    servers = (ways.server, ways.remote)

    def served() -> list[float]:
        """Connections that each backend has ended."""
        return [
            pod.node.metrics().total(
                "istio_tcp_connections_closed_total", reporter="destination", **labels
            )
            for pod in servers
        ]

    before = served()

    def since() -> list[float]:
        return [now - then for now, then in zip(served(), before, strict=True)]

    with counts(ways.client.node, reporter="source", **labels):
        says_hello(ways.client.dials(vip))
    eventually(lambda: sorted(since()) == [0, 1], "exactly one of both has served")
    for _ in range(50):
        says_hello(ways.client.dials(vip))
    eventually(lambda: sum(since()) == 51, "every connection is counted")
    # With fair odds, one of them has nothing in one of 2^50 runs.
    assert all(since())
    more = {"destination_service_name": "web", "destination_service_namespace": "default"}
    opened = "istio_tcp_connections_opened_total"
    assert ways.remote.node.metrics().total(opened, reporter="destination", **labels, **more)
    assert ways.client.node.metrics().total(opened, reporter="source", **labels, **more) >= 51


def test_svc_hostname_port(ways: Ways) -> None:
    is_taken(ways, ways.web)


def test_svc_hostname_named_port(ways: Ways) -> None:
    is_taken(ways, ways.named)


def is_taken(ways: Ways, service: str) -> None:
    """A peer that is no proxy may ask for a service of the server by its name."""
    to = (ways.server.address, HBONE_PORT)
    assert asks(ways.outsider, to, ways.context("client"), f"{service}:80") == 200
    line = ways.server.node.access.wait_for("connection complete", dst_hbone_addr=f"{service}:80")
    assert line["dst.service"] == service


def test_ztunnel_shutdown(ways: Ways) -> None:
    """The proxy of a client ends: what runs goes on to its end, and then nobody gets through."""
    pod, target = ways.client, (ways.remote.address, ECHO_PORT)
    with pod.dials(target) as connection:
        end = End(connection)
        assert end.says(HELLO).takes(22) == HELLO * 2
        pod.node.signal(signal.SIGTERM)
        pod.node.access.wait_for("draining")
        assert end.says(HELLO).takes(22) == HELLO * 2
        assert pod.node.running
        assert end.finishes().hears() == Heard(b"", "FIN")
    assert pod.node.wait(within=20.0) == 0  # of a minute, which it has
    with pytest.raises(ConnectionRefusedError):
        pod.dials(target)
    pod.node.start()


def test_server_shutdown(ways: Ways) -> None:
    """A server's proxy is gone at once, its application is not: nobody is told so, and no byte gets there."""
    pod, target = ways.remote, (ways.remote.address, ECHO_PORT)
    with ways.client.dials(target) as connection:
        end = End(connection)
        assert end.says(HELLO).takes(22) == HELLO * 2
        pod.node.kill()
        # To the client's own proxy it connects; what it says leads nowhere.
        assert ways.client.tries(target) == Heard(b"", "ECONNRESET")
        assert end.says_until_it_breaks(HELLO) in {"ECONNRESET", "EPIPE"}
    pod.node.start()
