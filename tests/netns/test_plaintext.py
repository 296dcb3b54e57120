"""A client without a node, and a pod with one (15006): what passes, as what it is reported, and what policy says to it."""

from __future__ import annotations

import random
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import DEADLINE, Application, End, Heard, hears_at_once
from tests.support.nodes import eventually, http_get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netns.namespaces import Host
    from tests.netns.pods import Pod, Pods
    from tests.support.nodes import Address

pytestmark = pytest.mark.root

SERVER = "spiffe://cluster.local/ns/default/sa/server"
REJECTED = "connection closed due to policy rejection: allow policies exist, but none allowed"
CHANGED = "connection closed due to policy change"
LARGE = 16 * 2**20
RESET = "ECONNRESET"


class Stage:
    """A pod whose node runs, and two machines without a node; the mesh knows one of them."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        self.server: Pod = pods.add("server")
        self.web = pods.mesh.service("web", {80: 8080}, "server")
        self.known, self.unknown = (pods.network.host(f"10.77.0.{last}") for last in (8, 9))
        pods.mesh.workload("plain", workloadIps=[self.known.address], protocol="TCP")
        self.app: Application

    def connect(self, host: Host) -> tuple[End, End]:
        """Both ends of a connection that has carried a byte."""
        client, server = self.app.pair(lambda: dial(host, (self.server.address, 8080)))
        client.says(b".")
        assert server.takes(1) == b"."
        return client, server

    def apply(self, *policies: dict[str, object]) -> None:
        """The node has these policies and no others."""
        after = len(self.server.node.log)
        self.pods.mesh.policies = list(policies)
        self.pods.mesh.write()
        self.server.node.log.wait_for("mesh applied", after=after)

    def refused(self, host: Host, port: int = 8080) -> Heard:
        """What a connection hears that is not to come about."""
        return host.call(hears_at_once, (self.server.address, port))


def dial(host: Host, address: Address) -> socket.socket:
    """A connection from a machine."""
    return host.call(socket.create_connection, address, DEADLINE)


@pytest.fixture
def stage(pods: Pods) -> Iterator[Stage]:
    """Running, without a policy."""
    stage = Stage(pods)
    with pods.running(), stage.server.listens(8080) as stage.app:
        yield stage


def test_it_passes_from_its_own_address_and_is_reported_as_nobodys(stage: Stage) -> None:
    client, server = stage.app.pair(lambda: dial(stage.known, (stage.server.address, 8080)))
    assert server.socket.getpeername()[0] == stage.known.address
    assert server.socket.getsockname() == (stage.server.address, 8080)
    client.says(b"question").finishes()
    assert server.hears() == Heard(b"question", "FIN")
    server.says(b"an answer").finishes()
    assert client.hears() == Heard(b"an answer", "FIN")
    line = stage.server.node.access.wait_for("connection complete")
    assert (line["direction"], line["bytes_sent"], line["bytes_recv"]) == ("inbound", 9, 8)
    assert line["src.addr"] == "{}:{}".format(*client.socket.getsockname())
    assert line["dst.addr"] == f"{stage.server.address}:8080"
    assert (line["src.workload"], line["dst.workload"]) == ("plain", "server")
    assert line["dst.service"] == stage.web
    assert not {"src.identity", "dst.identity", "dst.hbone_addr", "error"} & line.keys()
    (labels, _), *others = stage.server.node.metrics().series(
        "istio_tcp_connections_opened_total", reporter="destination"
    )
    assert not others
    assert labels["connection_security_policy"] == "unknown"
    assert labels["source_principal"] == "unknown"
    assert labels["destination_principal"] == SERVER
    assert labels["source_workload_namespace"] == "default"


def test_a_client_that_the_mesh_does_not_know_passes_too(stage: Stage) -> None:
    client, server = stage.connect(stage.unknown)
    client.closes()
    assert server.hears() == Heard(b"", "FIN")
    server.closes()
    line = stage.server.node.access.wait_for("connection complete")
    assert "src.workload" not in line


def test_without_original_source_it_comes_from_the_pod_itself(pods: Pods) -> None:
    server = pods.add("server", originalSource=False)
    stranger = pods.network.host("10.77.0.9")
    with pods.running(), server.listens(8080) as app:
        client, theirs = app.pair(lambda: dial(stranger, (server.address, 8080)))
        assert theirs.socket.getpeername()[0] == server.address
        client.says(b"question").finishes()
        assert theirs.hears() == Heard(b"question", "FIN")


def test_what_still_passes_at_the_end_of_a_drain_is_cut_and_told_of(pods: Pods) -> None:
    """spec/dataplane.md §20.2 item 15: what is cut is also forgotten, or the node would wait for it."""
    server = pods.add("server", drain="500ms")
    stranger = pods.network.host("10.77.0.9")
    with pods.running(), server.listens(8080) as app:
        client, application = app.pair(lambda: dial(stranger, (server.address, 8080)))
        client.says(b"?")
        assert application.takes(1) == b"?"
        assert server.node.terminate() == 0
        assert client.hears() == Heard(b"", RESET)
        assert application.hears() == Heard(b"", RESET)
        server.node.access.join()
        line = server.node.access.wait_for("connection complete")
        assert line["error"] == "connection closed due to connection drain"
        cut = server.node.access.all(re.compile("^drain deadline reached; connections cut: "))
        assert [line["message"].rpartition(" ")[2] for line in cut] == ["1"]
        # Late, and then complete.
        ends = server.node.access.all(component="inbound passthrough")
        assert [line["level"] for line in ends] == ["warn", "info"]


@pytest.mark.parametrize("splice", [True, False], ids=["spliced", "copied"])
def test_a_large_transfer_arrives_as_it_was_sent_both_ways_at_once(
    pods: Pods, *, splice: bool
) -> None:
    server = pods.add("server", splice=splice)
    stranger = pods.network.host("10.77.0.9")
    up, down = random.Random(1).randbytes(LARGE), random.Random(2).randbytes(LARGE + 1)
    with pods.running(), server.listens(8080) as app, ThreadPoolExecutor(3) as others:
        client, theirs = app.pair(lambda: dial(stranger, (server.address, 8080)))
        sent = [
            others.submit(lambda: client.says(up).finishes()),
            others.submit(lambda: theirs.says(down).finishes()),
        ]
        heard = others.submit(theirs.hears)
        assert client.hears() == Heard(down, "FIN")
        assert heard.result() == Heard(up, "FIN")
        for one in sent:
            one.result()
        line = server.node.access.wait_for("connection complete")
        assert (line["bytes_sent"], line["bytes_recv"]) == (len(down), len(up))
        labels = {"reporter": "destination", "connection_security_policy": "unknown"}
        metrics = server.node.metrics()
        assert metrics.total("istio_tcp_received_bytes_total", **labels) == len(up)
        assert metrics.total("istio_tcp_sent_bytes_total", **labels) == len(down)


def test_resets_are_resets_both_ways(stage: Stage) -> None:
    client, server = stage.connect(stage.unknown)
    client.says(b"half").resets()
    assert server.hears() == Heard(b"half", RESET)
    client, server = stage.connect(stage.unknown)
    server.says(b"half").resets()
    assert client.hears() == Heard(b"half", RESET)
    for _ in range(2):
        stage.server.node.access.wait_for("connection complete")


def test_policy_sees_the_address_and_no_identity(stage: Stage) -> None:
    mesh = stage.pods.mesh
    # A namespace is proved by a certificate. That the mesh knows whose address it is proves nothing.
    stage.apply(mesh.policy("allow", "Allow", {"namespaces": [{"Exact": "default"}]}))
    assert stage.refused(stage.known) == Heard(b"", RESET)
    line = stage.server.node.access.wait_for("connection complete", error=REJECTED)
    assert line["src.addr"].startswith(stage.known.address)
    metrics = stage.server.node.metrics()
    assert metrics.total("istio_tcp_connections_closed_total", response_flags="DENY") == 1
    assert metrics.total("ztunnel_refusals_total", reason="policy") == 1
    # And a policy against identities is not about who has none.
    stage.apply(mesh.policy("deny", "Deny", {"principals": [{"Presence": None}]}))
    stage.connect(stage.known)
    stage.apply(mesh.policy("allow", "Allow", {"sourceIps": [f"{stage.known.address}/32"]}))
    stage.connect(stage.known)
    assert stage.refused(stage.unknown) == Heard(b"", RESET)


def test_a_denial_cuts_the_connections_it_is_about_and_no_others(stage: Stage) -> None:
    client, server = stage.connect(stage.known)
    other, with_other = stage.connect(stage.unknown)
    ours = {"sourceIps": [f"{stage.known.address}/32"]}
    stage.apply(stage.pods.mesh.policy("deny", "Deny", ours))
    assert client.hears() == Heard(b"", RESET)
    assert server.hears() == Heard(b"", RESET)
    stage.server.node.access.wait_for("connection complete", error=CHANGED)
    other.says(b"still there?").finishes()
    assert with_other.hears() == Heard(b"still there?", "FIN")


def test_an_application_that_is_not_there_is_a_reset(stage: Stage) -> None:
    assert stage.refused(stage.unknown, 8081) == Heard(b"", RESET)
    line = stage.server.node.access.wait_for("connection complete")
    assert str(line["error"]).startswith("connection failed: ")
    assert line["dst.addr"] == f"{stage.server.address}:8081"
    closed = stage.server.node.metrics().total(
        "istio_tcp_connections_closed_total", response_flags="CONNECT"
    )
    assert closed == 1


@pytest.mark.parametrize("port", [15001, 15006])
def test_the_nodes_own_ports_lead_nowhere(stage: Stage, port: int) -> None:
    assert stage.refused(stage.unknown, port) == Heard(b"", RESET)
    line = stage.server.node.access.wait_for("connection failed", direction="inbound")
    assert line["error"] == "attempted recursive call to ourselves"
    assert line["dst.addr"] == f"{stage.server.address}:{port}"
    opened = stage.server.node.metrics().total("istio_tcp_connections_opened_total")
    assert opened == 0


def test_operators_reach_metrics_and_readiness_through_the_capture(stage: Stage) -> None:
    address = stage.server.address
    assert stage.unknown.call(http_get, (address, 15021), "/healthz/ready")
    assert "istio_tcp" in stage.unknown.call(http_get, (address, 15020), "/metrics")


def test_nothing_stays_open(stage: Stage) -> None:
    node = stage.server.node
    before = node.descriptors()["socket"]
    ends = [stage.connect(stage.unknown) for _ in range(20)]
    for client, server in ends:
        client.closes()
        server.closes()
    eventually(lambda: node.descriptors()["socket"] <= before, "every socket is closed")
    assert node.metrics().total("istio_tcp_sockets_open") == 0
