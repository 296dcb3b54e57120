"""Envoy in a namespace of its own, and captured traffic: HBONE's server, a waypoint, and HBONE's client.

What both say to each other in detail is tests/interop/test_envoy.py's; here addresses are real, capture is on, and the
proxies are told by their environment.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from tests.interop import tools
from tests.interop.envoy import Envoy, envoy_client, envoy_server
from tests.interop.transfer import MIB, both_ways, random_bytes, refusal
from tests.netns.namespaces import Network
from tests.netns.proxies import Town
from tests.support.apps import Application, Heard, direct
from tests.support.nodes import HBONE_PORT, as_text, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host
    from tests.support.nodes import Address

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(60)]

ACCOUNTS = "spiffe://cluster.local/ns/default/sa"
CLIENT, SERVER = f"{ACCOUNTS}/client", f"{ACCOUNTS}/server"
APP_PORT = 8080
# Tunnels, as Envoy counts them on either side.
AS_SERVER, AS_CLIENT = "http.hbone.downstream_cx_total", "cluster.node.upstream_cx_total"
# What a status other than 200 is to its tunnels: a connection that did not come about.
REFUSED = "cluster.node.upstream_cx_connect_attempts_exceeded"


class Meeting(Town):
    """Our client and our server in pods, and a machine where Envoy is."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self.client, self.server = self.pod("client"), self.pod("server")
        self.machine_of_envoy = self.machine("envoy", protocol="HBONE")
        waypoint = {
            "destination": f"/{self.machine_of_envoy.address}",
            "hboneMtlsPort": HBONE_PORT,
        }
        self.web = self.mesh.service("web", {80: APP_PORT}, "server", waypoint=waypoint)

    @contextlib.contextmanager
    def envoy_takes_tunnels(self, app: Address) -> Iterator[Envoy]:
        """With CONNECT terminated, whatever was asked for."""
        started = envoy_server(
            self.folder,
            listen=(self.machine_of_envoy.address, HBONE_PORT),
            leaf=self.ca.leaf(f"{ACCOUNTS}/envoy"),
            roots=self.ca.roots.read_bytes(),
            client=CLIENT,
            app=app,
        )
        with inside(self.machine_of_envoy, started) as envoy:
            yield envoy

    @contextlib.contextmanager
    def envoy_makes_tunnels(self, app: Address) -> Iterator[Envoy]:
        """To our server's proxy, for one application."""
        started = envoy_client(
            self.folder,
            listen=(self.machine_of_envoy.address, 0),
            leaf=self.ca.leaf(f"{ACCOUNTS}/envoy"),
            roots=self.ca.roots.read_bytes(),
            server=SERVER,
            peer=(self.server.address, HBONE_PORT),
            app=as_text(app),
        )
        with inside(self.machine_of_envoy, started) as envoy:
            yield envoy

    def stat(self, envoy: Envoy, name: str) -> int:
        """What Envoy has counted; its admin port is where it is."""
        return self.machine_of_envoy.call(envoy.stat, name)


@contextlib.contextmanager
def inside(host: Host, started: contextlib.AbstractContextManager[Envoy]) -> Iterator[Envoy]:
    """Enter and leave it in the machine's namespace."""
    envoy = host.call(started.__enter__)
    try:
        yield envoy
    finally:
        host.call(started.__exit__, None, None, None)


@pytest.fixture(scope="module")
def meeting(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    """Our proxies run; each test has its Envoy."""
    tools.envoy()
    with (
        Network() as network,
        Meeting(network, tmp_path_factory.mktemp("meeting")) as meeting,
        meeting.running(),
    ):
        yield meeting


def test_captured_traffic_reaches_an_envoy_that_takes_tunnels(meeting: Meeting) -> None:
    host = meeting.machine_of_envoy
    target = (host.address, APP_PORT)
    with (
        host.call(Application.listen, "127.0.0.1", 0) as app,
        meeting.envoy_takes_tunnels(app.address) as envoy,
    ):
        client, server = app.pair(lambda: meeting.client.dials(target))
        both_ways(client, server, up=random_bytes(MIB, seed=1), down=random_bytes(MIB, seed=2))
        client.finishes()
        assert server.hears() == Heard(b"", "FIN")
        server.says(b"bye").closes()
        assert client.hears() == Heard(b"bye", "FIN")
        request = envoy.access(client=CLIENT)
        assert request["authority"] == as_text(target)
        assert "k8s.namespace.name=default" in request["baggage"]
        assert request["forwarded"].startswith(f'for="{meeting.client.address}:')
        assert meeting.stat(envoy, AS_SERVER) == 1
    line = meeting.client.node.access.wait_for(
        "connection complete", dst_hbone_addr=as_text(target)
    )
    assert (line["src.identity"], line["dst.identity"]) == (CLIENT, f"{ACCOUNTS}/envoy")
    assert line["dst.addr"] == f"{host.address}:{HBONE_PORT}"
    assert "error" not in line


def test_an_envoy_is_the_waypoint_of_a_service(meeting: Meeting) -> None:
    """It is asked for the service as the client knows it, and goes on to the server without a tunnel."""
    vip = (meeting.mesh.vip(meeting.web), 80)
    behind = (meeting.server.address, APP_PORT)
    with meeting.server.listens(APP_PORT) as app, meeting.envoy_takes_tunnels(behind) as envoy:
        client, server = app.pair(lambda: meeting.client.dials(vip))
        assert server.socket.getpeername()[0] == meeting.machine_of_envoy.address
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.says(b"answer").finishes()
        assert client.hears() == Heard(b"answer", "FIN")
        assert envoy.access(client=CLIENT)["authority"] == as_text(vip)
    line = meeting.client.node.access.wait_for("connection complete", dst_service=meeting.web)
    assert line["dst.hbone_addr"] == as_text(vip)
    assert line["dst.workload"] == "envoy"
    line = meeting.server.node.access.wait_for("connection complete", direction="inbound")
    assert line["src.workload"] == "envoy"
    assert "src.identity" not in line


def test_an_envoy_that_makes_tunnels_reaches_an_application_in_a_pod(meeting: Meeting) -> None:
    host = meeting.machine_of_envoy
    target = (meeting.server.address, APP_PORT)
    with meeting.server.listens(APP_PORT) as app, meeting.envoy_makes_tunnels(target) as envoy:
        client, server = app.pair(lambda: host.call(direct, envoy.listener))
        # Original source: to the application it is Envoy that has come, not the proxy.
        assert server.socket.getpeername()[0] == host.address
        both_ways(client, server, up=random_bytes(MIB, seed=3), down=random_bytes(MIB, seed=4))
        client.finishes()
        assert server.hears() == Heard(b"", "FIN")
        server.says(b"bye").closes()
        assert client.hears() == Heard(b"bye", "FIN")
        assert meeting.stat(envoy, AS_CLIENT) == 1
    line = meeting.server.node.access.wait_for(
        "connection complete", dst_hbone_addr=as_text(target)
    )
    assert (line["src.identity"], line["dst.identity"]) == (f"{ACCOUNTS}/envoy", SERVER)
    assert (line["bytes_recv"], line["bytes_sent"]) == (MIB, MIB + 3)
    assert "error" not in line


def test_a_killed_envoy_is_a_reset_in_both_directions(meeting: Meeting) -> None:
    host, target = meeting.machine_of_envoy, (meeting.server.address, APP_PORT)
    with (
        host.call(Application.listen, "127.0.0.1", 0) as app,
        meeting.envoy_takes_tunnels(app.address) as envoy,
    ):
        client, server = app.pair(lambda: meeting.client.dials((host.address, APP_PORT)))
        server.says(b"half of an ans")
        assert client.takes(14) == b"half of an ans"
        envoy.process.kill()
        assert client.hears() == Heard(b"", "ECONNRESET")
    with meeting.server.listens(APP_PORT) as app, meeting.envoy_makes_tunnels(target) as envoy:
        client, server = app.pair(lambda: host.call(direct, envoy.listener))
        client.says(b"half of a ques")
        assert server.takes(14) == b"half of a ques"
        envoy.process.kill()
        assert server.hears() == Heard(b"", "ECONNRESET")


def test_a_policy_of_ours_is_a_refusal_to_envoy(meeting: Meeting) -> None:
    """Said as 401 to the peer, and without a byte to its application."""
    node, target = meeting.server.node, (meeting.server.address, APP_PORT)
    rules = [[[{"principals": [{"Exact": "cluster.local/ns/default/sa/envoy"}]}]]]
    policy = {"name": "no-envoy", "namespace": "default", "scope": "Namespace", "action": "Deny"}
    after = len(node.access)
    meeting.mesh.policies.append({**policy, "dryRun": False, "rules": rules})
    meeting.mesh.write()
    try:
        node.access.wait_for("mesh applied", after=after)
        with meeting.envoy_makes_tunnels(target) as envoy:
            assert meeting.machine_of_envoy.call(refusal, envoy.listener).data == b""
            eventually(lambda: meeting.stat(envoy, REFUSED) == 1, "Envoy has heard the refusal")
        node.access.wait_for(
            "connection complete",
            after=after,
            src_identity=f"{ACCOUNTS}/envoy",
            error=re.compile("explicitly denied by: default/no-envoy$"),
        )
    finally:
        meeting.mesh.policies.clear()
        meeting.mesh.write()
