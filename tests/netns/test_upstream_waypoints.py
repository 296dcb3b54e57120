"""Upstream's namespace tests by their names: waypoints of every kind, and gateways (spec/dataplane.md §17).

Waypoint, gateway and echo are HBONE servers without a proxy, as in upstream's fixture; the sandwiched waypoints are
pods whose application is a relay. Whoever stands behind a waypoint that only answers is no more than an entry of the mesh.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.netns.namespaces import Network
from tests.netns.proxies import Town
from tests.netns.serving import (
    ECHO_PORT,
    GREETING,
    HELLO,
    echo,
    gateway,
    hbone,
    proxy_relay,
    relay,
    serving,
)
from tests.support.apps import End, Heard
from tests.support.nodes import HBONE_PORT, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host
    from tests.support.nodes import Address, Fields

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

ACCOUNTS = "spiffe://cluster.local/ns/default/sa"
TUNNEL_PORT = 15088
# The port of a gateway's service; its target is `HBONE_PORT`.
GATEWAY_PORT = 15009


def through(destination: str, port: int = HBONE_PORT) -> Fields:
    """A waypoint or gateway, as the mesh's file has it."""
    return {"destination": destination, "hboneMtlsPort": port}


class Crossing(Town):
    """A client, whoever stands behind a waypoint or a gateway, and these."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self._numbers = itertools.count(1)
        self.client = self.pod("client")
        self.waypoint = self.machine("waypoint", protocol="HBONE", hostname="way.example")
        self.gateway = self.machine("gateway", protocol="HBONE")
        self.far_echo = network.host("10.77.0.100")
        self._behind_waypoints()
        self._behind_gateways()
        self._behind_sandwiches()

    def _behind_waypoints(self) -> None:
        by_address = through(f"/{self.waypoint.address}")
        name = self.mesh.service("waypoint", {HBONE_PORT: HBONE_PORT}, "waypoint")
        self.workloads = {
            "address": self._entry("one", waypoint=by_address),
            "service": self._entry("two", waypoint=through(f"default/{name}")),
            "workload hostname": self._entry("three", waypoint=through("default/way.example")),
        }
        self._entry("web")
        self.web = self.mesh.service("web", {80: ECHO_PORT}, "web", waypoint=by_address)

    def _behind_gateways(self) -> None:
        name = self.mesh.service("gateway", {GATEWAY_PORT: HBONE_PORT}, "gateway")
        ways = {
            "remote": through(f"/{self.gateway.address}"),
            "farther": through(f"default/{name}", GATEWAY_PORT),
        }
        self.remote: dict[str, Address] = {}
        for service, way in ways.items():
            behind: dict[str, Any] = {"network": "remote", "workloadIps": []}
            self.mesh.workload(f"{service}-echo", networkGateway=way, **behind)
            names = [f"{ACCOUNTS}/echo"]
            ports = {ECHO_PORT: ECHO_PORT}
            hostname = self.mesh.service(service, ports, f"{service}-echo", subjectAltNames=names)
            self.remote[hostname] = (self.mesh.vip(hostname), ECHO_PORT)

    def _behind_sandwiches(self) -> None:
        self.plain = self.pod("plain-way", applicationTunnel={"protocol": "NONE"})
        tunnel = {"protocol": "PROXY", "port": TUNNEL_PORT}
        self.proxied = self.pod("proxied-way", applicationTunnel=tunnel)
        name = self.mesh.service("proxied-way", {}, "proxied-way")
        self.server = self.pod("server", waypoint=through(f"/{self.plain.address}"))
        by_vip = through(f"/{self.mesh.vip(name)}")
        self.other = self.pod("other", waypoint=by_vip)

    def _entry(self, name: str, **more: Any) -> str:
        # Nobody has this address: what gets to it is lost.
        address = f"10.77.1.{next(self._numbers)}"
        self.mesh.workload(name, workloadIps=[address], **more)
        return address

    def servers(self) -> Iterator[contextlib.AbstractContextManager[None]]:
        """What runs on machines, and what applications do."""
        at_echo = (self.far_echo.address, HBONE_PORT)
        yield self._hbone(self.waypoint, "waypoint")
        yield self._hbone(self.far_echo, "echo")
        context = self.context("gateway", server=True)
        yield serving(self.gateway, gateway(self.gateway, context, at_echo))
        yield serving(self.server.host, echo(self.server.host))
        yield serving(self.other.host, echo(self.other.host))
        server = (self.server.address, ECHO_PORT)
        yield serving(self.plain.host, relay(self.plain.host, server))
        yield serving(self.proxied.host, proxy_relay(TUNNEL_PORT))

    def _hbone(self, host: Host, name: str) -> contextlib.AbstractContextManager[None]:
        return serving(host, hbone(host, self.context(name, server=True), name=name))

    def greets(self, to: Address) -> Fields:
        """A waypoint or echo has greeted and repeated; gives the line of the connection."""
        with self.client.dials(to) as connection:
            name = "{}:{}".format(*connection.getsockname())
            end = End(connection).says(HELLO).finishes()
            assert end.hears() == Heard(GREETING + HELLO, "FIN")
        line = self.client.node.access.wait_for("connection complete", src_addr=name)
        assert (line["bytes_sent"], line["bytes_recv"]) == (11, 20)
        assert "error" not in line
        return line

    def by_waypoint(self, line: Fields, authority: str) -> None:
        """The connection went through the waypoint, which was asked for this."""
        assert line["dst.hbone_addr"] == authority
        assert line["dst.addr"] == f"{self.waypoint.address}:{HBONE_PORT}"
        assert line["dst.workload"] == "waypoint"
        assert line["dst.identity"] == f"{ACCOUNTS}/waypoint"

    def by_gateway(self, hostname: str) -> None:
        """A connection to this service goes through the gateway, to an echo that says who it is."""
        line = self.greets(self.remote[hostname])
        assert line["dst.hbone_addr"] == f"{hostname}:{ECHO_PORT}"
        assert line["dst.addr"] == f"{self.gateway.address}:{HBONE_PORT}"
        assert line["dst.service"] == hostname
        # By its own word and its own certificate, not the gateway's.
        assert line["dst.workload"] == "echo"
        assert line["dst.cluster"] == "Kubernetes"
        assert line["dst.identity"] == f"{ACCOUNTS}/echo"


@pytest.fixture(scope="module")
def crossing(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crossing]:
    """Everything runs."""
    with (
        Network() as network,
        Crossing(network, tmp_path_factory.mktemp("crossing")) as crossing,
        crossing.running(),
        contextlib.ExitStack() as stack,
    ):
        for server in crossing.servers():
            stack.enter_context(server)
        yield crossing


def test_workload_waypoint(crossing: Crossing) -> None:
    to = (crossing.workloads["address"], ECHO_PORT)
    crossing.by_waypoint(crossing.greets(to), as_text(to))


def test_service_waypoint(crossing: Crossing) -> None:
    to = (crossing.mesh.vip(crossing.web), 80)
    line = crossing.greets(to)
    crossing.by_waypoint(line, as_text(to))
    assert line["dst.service"] == crossing.web


def test_service_waypoint_hostname(crossing: Crossing) -> None:
    to = (crossing.workloads["service"], ECHO_PORT)
    crossing.by_waypoint(crossing.greets(to), as_text(to))


def test_service_waypoint_workload_hostname(crossing: Crossing) -> None:
    to = (crossing.workloads["workload hostname"], ECHO_PORT)
    crossing.by_waypoint(crossing.greets(to), as_text(to))


def test_double_hbone1(crossing: Crossing) -> None:
    """The gateway by its address."""
    crossing.by_gateway("remote.default.svc.cluster.local")


def test_double_hbone2(crossing: Crossing) -> None:
    """The gateway by a service's name, whose port is not the gateway's."""
    crossing.by_gateway("farther.default.svc.cluster.local")


def test_sandwich_waypoint_plain(crossing: Crossing) -> None:
    to = (crossing.server.address, ECHO_PORT)
    with crossing.client.dials(to) as connection:
        assert End(connection).says(HELLO).finishes().hears() == Heard(HELLO * 2, "FIN")
    line = crossing.plain.node.access.wait_for("connection complete", direction="inbound")
    assert line["dst.hbone_addr"] == as_text(to)
    assert line["src.identity"] == f"{ACCOUNTS}/client"
    # The waypoint's own way to the server is not led back to it.
    line = crossing.server.node.access.wait_for("connection complete", direction="inbound")
    assert line["src.identity"] == f"{ACCOUNTS}/plain-way"


def test_sandwich_waypoint_proxy_protocol(crossing: Crossing) -> None:
    """The waypoint's service has no ports, and its application is told where to go."""
    to = (crossing.other.address, ECHO_PORT)
    with crossing.client.dials(to) as connection:
        assert End(connection).says(HELLO).finishes().hears() == Heard(HELLO * 2, "FIN")
    line = crossing.proxied.node.access.wait_for("connection complete", direction="inbound")
    assert line["dst.hbone_addr"] == as_text(to)
    line = crossing.other.node.access.wait_for("connection complete", direction="inbound")
    assert line["src.identity"] == f"{ACCOUNTS}/proxied-way"
