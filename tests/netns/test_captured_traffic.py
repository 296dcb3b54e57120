"""Applications that know nothing of a mesh, between two pods (A5): what passes, and as what it arrives."""

from __future__ import annotations

import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Heard
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.netns.pods import Pair, Pods
    from tests.support.apps import Application

pytestmark = pytest.mark.root

# A node that waited for the client's first byte would wait for seconds, or for ever; this is for the machine's bad moments.
NO_ADDED_DELAY = 1.0
MANY = 100
LARGE = 16 * 2**20


def test_curl_reaches_a_service_by_its_address(pair: Pair) -> None:
    with (
        pair.server.listens(8080) as app,
        pair.client.host.program("curl", "-sS", f"http://{pair.vip}/page") as curl,
    ):
        assert b"GET /page" in answer_http(app, b"the page")
        assert curl.communicate(timeout=10) == (b"the page", b"")
    line = pair.client.node.access.wait_for("connection complete", dst_service=pair.web)
    assert line["dst.hbone_addr"] == f"{pair.server.address}:8080"


def test_curl_reaches_a_pod_by_its_address(pair: Pair) -> None:
    with (
        pair.server.listens(8081) as app,
        pair.client.host.program("curl", "-sS", f"http://{pair.server.address}:8081/") as curl,
    ):
        answer_http(app, b"the page")
        assert curl.communicate(timeout=10) == (b"the page", b"")
    line = pair.server.node.access.wait_for(
        "connection complete", dst_hbone_addr=f"{pair.server.address}:8081"
    )
    assert line["src.identity"] == "spiffe://cluster.local/ns/default/sa/client"
    assert line["dst.identity"] == "spiffe://cluster.local/ns/default/sa/server"


def test_netcat_finishes_its_question_before_it_gets_the_answer(pair: Pair) -> None:
    with (
        pair.server.listens(8080) as app,
        pair.client.host.program("nc", "-N", pair.vip, "80") as nc,
    ):
        assert nc.stdin is not None
        assert nc.stdout is not None
        nc.stdin.write(b"question")
        nc.stdin.close()
        server = app.accepts()
        assert server.hears() == Heard(b"question", "FIN")
        server.says(b"answer").finishes()
        assert nc.stdout.read() == b"answer"
        assert nc.wait(10) == 0


def test_the_server_sees_the_clients_address(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        _, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        assert server.socket.getpeername()[0] == pair.client.address


def test_without_original_source_the_server_sees_its_own_node(pods: Pods) -> None:
    client = pods.add("client")
    server = pods.add("server", originalSource=False)
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        assert theirs.socket.getpeername()[0] == server.address
        ours.says(b"question").finishes()
        assert theirs.hears() == Heard(b"question", "FIN")


def test_a_server_that_speaks_first_is_heard_at_once(
    pair: Pair, figure: Callable[[str], None]
) -> None:
    def time_to_banner(*, around: bool = False) -> float:
        # Nobody gets to the server around its own node.
        address, app = ((pair.unknown, 8080), plain_app) if around else ((pair.vip, 80), meshed)
        began = time.perf_counter()
        client, server = app.pair(lambda: pair.client.dials(address, around=around))
        server.says(b"220 ready\r\n")
        assert client.takes(11) == b"220 ready\r\n"
        return time.perf_counter() - began

    with pair.server.listens(8080) as meshed, pair.outside(8080) as plain_app:
        time_to_banner()  # the tunnel stands from here on
        times = sorted(time_to_banner() for _ in range(9))
        plain = sorted(time_to_banner(around=True) for _ in range(9))
    figure(f"{times[4] * 1e3:.2f} ms to the banner, {plain[4] * 1e3:.2f} ms around the nodes")
    assert times[4] < NO_ADDED_DELAY + 10 * plain[4]


def test_a_servers_finish_leaves_the_clients_direction_open(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        client, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        server.says(b"all I have").finishes()
        assert client.hears() == Heard(b"all I have", "FIN")
        client.says(b"late question").finishes()
        assert server.hears() == Heard(b"late question", "FIN")


def test_a_clients_reset_reaches_the_server_as_a_reset(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        client, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        client.says(b"half a ques")
        server.waits_for_bytes()
        client.resets()
        assert server.hears() == Heard(b"half a ques", "ECONNRESET")


def test_a_servers_reset_reaches_the_client_as_a_reset(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        client, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        server.says(b"half an ans")
        client.waits_for_bytes()
        server.resets()
        assert client.hears() == Heard(b"half an ans", "ECONNRESET")


def test_an_address_outside_the_mesh_is_reached_as_plain_tcp(pair: Pair) -> None:
    with pair.outside(8080) as app:
        client, server = app.pair(lambda: pair.client.dials((pair.unknown, 8080)))
        assert server.socket.getpeername()[0] == pair.client.address
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.says(b"answer").finishes()
        assert client.hears() == Heard(b"answer", "FIN")
    line = pair.client.node.access.wait_for("connection complete", dst_addr=f"{pair.unknown}:8080")
    assert "dst.hbone_addr" not in line
    assert (line["bytes_sent"], line["bytes_recv"]) == (8, 6)


def test_a_workload_that_takes_no_tunnels_is_reached_as_plain_tcp(pair: Pair) -> None:
    with pair.outside(8080) as app:
        client, server = app.pair(lambda: pair.client.dials((pair.plain_vip, 80)))
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.closes()
    line = pair.client.node.access.wait_for("connection complete", dst_service=pair.plain)
    assert line["dst.addr"] == f"{pair.stranger.address}:8080"
    assert "dst.hbone_addr" not in line
    assert "dst.identity" not in line


def test_many_connections_at_once_keep_apart_and_lose_nothing(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        pairs = [app.pair(lambda: pair.client.dials((pair.vip, 80))) for _ in range(MANY)]
        for number, (client, _) in enumerate(pairs):
            client.says(b"%08d" % number * 1024)
        # Two workers accept: the order in which the server sees them is nobody's promise.
        servers = {server.takes(8): server for _, server in pairs}
        assert sorted(servers) == [b"%08d" % number for number in range(MANY)]
        for word, server in servers.items():
            assert server.takes(8 * 1023) == word * 1023
            server.says(word * 2048).finishes()
        for number, (client, _) in enumerate(pairs):
            client.finishes()
            assert client.hears() == Heard(b"%08d" % number * 2048, "FIN")


@pytest.mark.parametrize("upward", [True, False], ids=["up", "down"])
def test_a_large_transfer_arrives_as_it_was_sent(
    pair: Pair, upward: bool, figure: Callable[[str], None]
) -> None:
    data = random.Random(upward).randbytes(LARGE)
    with pair.server.listens(8080) as app, ThreadPoolExecutor(1) as other:
        client, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        sender, receiver = (client, server) if upward else (server, client)
        began = time.monotonic()
        sent = other.submit(lambda: sender.says(data).finishes())
        assert receiver.hears() == Heard(data, "FIN")
        sent.result()
        figure(f"{LARGE / (time.monotonic() - began) / 2**20:.0f} MiB/s")


def test_a_pod_reaches_itself_through_its_own_service(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        client, server = app.pair(lambda: pair.server.dials((pair.vip, 80)))
        # Its own packets with its own address would not find their way back (spec/dataplane.md §1.4, rule 2).
        assert server.socket.getpeername()[0] == pair.server.address
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")


def test_a_pod_reaches_itself_by_its_own_address_without_its_node(pair: Pair) -> None:
    after = len(pair.server.node.access)
    with pair.server.listens(8082) as app:
        client, server = app.pair(lambda: pair.server.dials((pair.server.address, 8082)))
        # An application that talks to itself is nobody else's business: rule 12 of the capture.
        client_address = client.socket.getsockname()
        assert server.socket.getpeername() == client_address
    assert not [
        line for line in pair.server.node.access.text[after:] if str(client_address[1]) in line
    ]


def test_a_connection_to_the_nodes_own_port_is_ended_before_it_goes_anywhere(pair: Pair) -> None:
    node = pair.client.node
    opened = node.metrics().total("istio_tcp_connections_opened_total")
    assert pair.client.tries(("127.0.0.1", 15001)) == Heard(b"", "ECONNRESET")
    line = node.access.wait_for("connection failed", dst_addr="127.0.0.1:15001")
    assert line["error"] == "attempted recursive call to ourselves"
    assert node.metrics().total("istio_tcp_connections_opened_total") == opened


def test_a_connection_to_the_nodes_port_on_the_pods_address_makes_no_loop(pair: Pair) -> None:
    node, address = pair.client.node, pair.client.address
    opened = node.metrics().total("istio_tcp_connections_opened_total")
    assert pair.client.tries((address, 15001)) == Heard(b"", "ECONNRESET")
    # Not loopback, so it goes as far as the pod's own 15008, which knows its own ports (spec/dataplane.md §3.5).
    line = node.access.wait_for("connection failed", direction="inbound")
    assert "recursive" in line["error"]
    assert node.metrics().total("istio_tcp_connections_opened_total") == opened + 1


def test_the_kubelets_probes_pass_by_the_nodes(pair: Pair) -> None:
    # Rules 4 and 5: the kubelet's connections come from this address, and answers to it go straight back.
    kubelet = "169.254.7.127"
    pair.stranger.takes(kubelet)
    for pod in (pair.client, pair.server):
        pod.host.ip("route", "add", f"{kubelet}/32", "dev", "eth0")
    with pair.server.listens(8083) as app, pair.outside(8083) as outside:
        address = (pair.server.address, 8083)
        probe, probed = app.pair(
            lambda: pair.stranger.call(socket.create_connection, address, 10, (kubelet, 0))
        )
        assert probed.socket.getpeername()[0] == kubelet
        probed.says(b"ok").finishes()
        assert probe.hears() == Heard(b"ok", "FIN")
        client, server = outside.pair(lambda: pair.client.dials((kubelet, 8083)))
        # Not by way of the node, whose socket would be the one that connected.
        assert server.socket.getpeername() == client.socket.getsockname()


def test_both_nodes_count_the_same_connection(pair: Pair) -> None:
    def counts() -> dict[str, dict[str, float]]:
        return {
            reporter: {
                name: pod.node.metrics().total(
                    f"istio_tcp_{name}_total",
                    reporter=reporter,
                    source_principal="spiffe://cluster.local/ns/default/sa/client",
                    destination_principal="spiffe://cluster.local/ns/default/sa/server",
                    destination_service=pair.web,
                    connection_security_policy="mutual_tls",
                )
                for name in expected
            }
            for reporter, pod in (("source", pair.client), ("destination", pair.server))
        }

    def counted() -> dict[str, dict[str, float]]:
        return {
            reporter: {name: now - before[reporter][name] for name, now in values.items()}
            for reporter, values in counts().items()
        }

    expected = {
        "connections_opened": 1,
        "connections_closed": 1,
        "received_bytes": 11,
        "sent_bytes": 22,
    }
    with pair.server.listens(8080) as app:
        # Of earlier tests.
        eventually(lambda: settled(counts()), "nothing is open any more")
        before = counts()
        client, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        client.says(b"hello world").finishes()
        assert server.hears() == Heard(b"hello world", "FIN")
        server.says(b"hello world" * 2).finishes()
        assert client.hears() == Heard(b"hello world" * 2, "FIN")
    both = {"source": expected, "destination": expected}
    eventually(lambda: settled(counts()), "the connection is closed on both sides")
    assert counted() == both


def settled(counts: dict[str, dict[str, float]]) -> bool:
    """As many were closed as were opened."""
    return all(one["connections_opened"] == one["connections_closed"] for one in counts.values())


def answer_http(app: Application, body: bytes) -> bytes:
    """Answer one request; gives its head."""
    server = app.accepts()
    head = b""
    while b"\r\n\r\n" not in head:
        piece = server.socket.recv(65536)
        assert piece, head
        head += piece
    server.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
    server.says(body).closes()
    return head
