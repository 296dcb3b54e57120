"""Envoy as HBONE's server and as its client, with its small windows and 100 streams."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop import tools
from tests.interop.envoy import Envoy, envoy_client, envoy_server
from tests.interop.transfer import MIB, both_ways, random_bytes, refusal
from tests.support.apps import Application, End, Heard, direct
from tests.support.certs import Authority
from tests.support.nodes import HBONE_PORT, Mesh, Node, as_text, eventually
from ztunnel.identity.ca.selfsigned import SelfSignedCa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
STRANGER = "spiffe://cluster.local/ns/default/sa/stranger"


class Tunnel(NamedTuple):
    """A client's connection leads to `app`, through our node and through Envoy."""

    node: Node
    envoy: Envoy
    app: Application
    way_in: tuple[str, int]

    def connect(self) -> tuple[End, End]:
        """Both ends of a connection that is established all the way."""
        return self.app.pair(lambda: direct(self.way_in))


Between = Callable[..., AbstractContextManager[Tunnel]]


@contextmanager
def to_envoy(
    folder: Path, *, its_name: str = SERVER, expects: str = CLIENT, **more: object
) -> Iterator[Tunnel]:
    """Our node is the client, Envoy the server."""
    tools.envoy()
    with Mesh(folder, network="127.3") as mesh:
        mesh.workload("client")
        far = mesh.workload("server")
        # Envoy comes first, and its leaf is signed by the root that our node will find.
        SelfSignedCa.open(folder / "ca", trust_domain="cluster.local", leaf_lifetime=3600.0)
        root = Authority.of_node(folder / "ca")
        with (
            Application.listen(far) as app,
            envoy_server(
                folder,
                listen=(far, HBONE_PORT),
                leaf=root.leaf(its_name),
                roots=(folder / "ca" / "root.pem").read_bytes(),
                client=expects,
                app=app.address,
            ) as envoy,
            # One worker has one pool, so that which connections share a tunnel is not luck.
            Node(mesh, "client", forwards=[as_text(app.address)], workers=1, **more) as node,  # type: ignore[arg-type]
        ):
            yield Tunnel(node, envoy, app, node.forwards[as_text(app.address)])


@contextmanager
def from_envoy(
    folder: Path, *, its_name: str = CLIENT, expects: str = SERVER, **more: object
) -> Iterator[Tunnel]:
    """Envoy is the client, our node the server."""
    tools.envoy()
    with Mesh(folder, network="127.3") as mesh:
        near, far = mesh.workload("client"), mesh.workload("server")
        with Application.listen(far) as app, Node(mesh, "server", drain="10s", **more) as node:  # type: ignore[arg-type]
            root = Authority.of_node(folder / "ca")
            with envoy_client(
                folder,
                listen=(near, 0),
                leaf=root.leaf(its_name),
                roots=(folder / "ca" / "root.pem").read_bytes(),
                server=expects,
                peer=node.bound["inbound"],
                app=as_text(app.address),
            ) as envoy:
                yield Tunnel(node, envoy, app, envoy.listener)


WAYS = pytest.mark.parametrize("way", [to_envoy, from_envoy])


@WAYS
def test_bytes_arrive_whole_both_ways(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        up, down = random_bytes(8 * MIB, seed=1), random_bytes(8 * MIB, seed=2)
        both_ways(client, server, up=up, down=down)


def test_envoy_as_server_sees_who_we_are_and_what_we_want(tmp_path: Path) -> None:
    with to_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.closes()
        assert client.hears() == Heard(b"", "FIN")
        request = tunnel.envoy.access(client=CLIENT)
        assert request["authority"] == as_text(tunnel.app.address)
        assert request["tls"] == "TLSv1.3"
        assert request["sni"] is None
        assert "k8s.namespace.name=default" in request["baggage"]
        assert request["forwarded"].startswith('for="127.0.0.1:')
        assert len(request["traceparent"]) == 55
        line = tunnel.node.access.wait_for("connection complete", dst_identity=SERVER)
        assert line["src.identity"] == CLIENT
        assert line["bytes_sent"] == 8


def test_our_server_sees_who_envoy_is(tmp_path: Path) -> None:
    with from_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.closes()
        assert client.hears() == Heard(b"", "FIN")
        line = tunnel.node.access.wait_for("connection complete", src_identity=CLIENT)
        assert line["dst.identity"] == SERVER
        assert line["bytes_recv"] == 8


def test_we_refuse_an_envoy_server_with_another_name(tmp_path: Path) -> None:
    with to_envoy(tmp_path, its_name=STRANGER) as tunnel:
        assert refusal(tunnel.way_in) == Heard(b"", "ECONNRESET")
        tunnel.node.access.wait_for(error=re.compile(f"expected SAN.*server.*{STRANGER}"))


def test_an_envoy_server_refuses_us_if_it_expects_another(tmp_path: Path) -> None:
    with to_envoy(tmp_path, expects=STRANGER) as tunnel:
        assert refusal(tunnel.way_in) == Heard(b"", "ECONNRESET")
        tunnel.node.access.wait_for(error=re.compile("alert certificate_unknown"))
        host, port = tunnel.envoy.listener
        verified = f"listener.{host}_{port}.ssl.fail_verify_san"
        eventually(lambda: tunnel.envoy.stat(verified) == 1, "Envoy found our name wrong")


def test_we_refuse_an_envoy_client_of_another_trust_domain(tmp_path: Path) -> None:
    elsewhere = "spiffe://elsewhere.example/ns/default/sa/client"
    with from_envoy(tmp_path, its_name=elsewhere) as tunnel:
        assert refusal(tunnel.way_in).data == b""
        tunnel.node.access.wait_for(error=re.compile(f"expected trustdomain.*{elsewhere}"))


def test_an_envoy_client_refuses_us_if_it_expects_another(tmp_path: Path) -> None:
    with from_envoy(tmp_path, expects=STRANGER) as tunnel:
        assert refusal(tunnel.way_in).data == b""
        said = tunnel.envoy.access(upstream="CERTIFICATE_VERIFY_FAILED")
        assert "SAN_matcher" in said["upstream"]
        tunnel.node.access.wait_for("connection failed", error=re.compile("(?i)certificate"))


@WAYS
def test_client_half_close_leaves_the_answer_flowing(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        answer = random_bytes(MIB, seed=3)
        with ThreadPoolExecutor(1) as threads:
            said = threads.submit(server.says(b"").says, answer)
            assert client.takes(MIB) == answer
            said.result().finishes()
        assert client.hears() == Heard(b"", "FIN")


def test_server_half_close_leaves_the_request_flowing_from_envoy(tmp_path: Path) -> None:
    with from_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        server.says(b"greeting").finishes()
        assert client.hears() == Heard(b"greeting", "FIN")
        client.says(b"late words").finishes()
        assert server.hears() == Heard(b"late words", "FIN")


def test_server_that_ends_first_is_a_fin(tmp_path: Path) -> None:
    # Envoy as a server has no half-close in this direction: behind END_STREAM it says RST_STREAM(NO_ERROR), "an
    # answer in full, stop asking" (RFC 9113 §8.1), and closes the application's connection. That is a FIN for
    # our client, and what it says afterwards is lost, as toward any server that has closed.
    with to_envoy(tmp_path) as tunnel:
        for ending in (End.finishes, End.closes):
            client, server = tunnel.connect()
            client.says(b"question")
            assert server.takes(8) == b"question"
            ending(server.says(b"whole answer"))
            assert client.hears() == Heard(b"whole answer", "FIN")
            assert client.says_until_it_breaks() in {"EPIPE", "ECONNRESET"}


def test_a_long_answer_before_the_end_is_whole_or_seen_not_to_be(tmp_path: Path) -> None:
    # If the application ends while Envoy's window is closed, Envoy 1.40 sends no END_STREAM but RST_STREAM(INTERNAL_ERROR),
    # and often not the rest either (by its own DOWNSTREAM_WIRE_BYTES_SENT). All that it sent arrives, and then no FIN.
    with to_envoy(tmp_path) as tunnel, ThreadPoolExecutor(1) as threads:
        client, server = tunnel.connect()
        answer = random_bytes(4 * MIB, seed=4)
        said = threads.submit(lambda: server.says(answer).closes())
        heard = client.hears()
        said.result()
        line = tunnel.node.access.wait_for("connection complete")
        broken = "stream reset by peer: INTERNAL_ERROR" in line.get("error", "")
        assert heard.end == ("ECONNRESET" if broken else "FIN")
        assert line["bytes_recv"] == len(heard.data)
        assert heard.data == (answer[: len(heard.data)] if broken else answer)
        # Its headers are a few hundred bytes; nothing of what it wrote to us is missing.
        assert 0 <= tunnel.envoy.access(client=CLIENT)["written"] - len(heard.data) < 16 * 1024


@WAYS
def test_reset_of_the_server_arrives_as_reset(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        server.says(b"before")
        assert client.takes(6) == b"before"
        server.resets()
        assert client.hears() == Heard(b"", "ECONNRESET")


def test_reset_of_a_client_at_envoy_arrives_as_reset(tmp_path: Path) -> None:
    with from_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"before")
        assert server.takes(6) == b"before"
        client.resets()
        assert server.hears() == Heard(b"", "ECONNRESET")


def test_reset_of_our_client_reaches_envoy_as_reset(tmp_path: Path) -> None:
    with to_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"before")
        assert server.takes(6) == b"before"
        client.resets()
        assert tunnel.envoy.access(flags="DR")["details"] == "http2.remote_reset"
        # What Envoy makes of it at its application is a FIN (spec/reliability.md says so of upstream too).
        assert server.hears().data == b""


def test_killed_envoy_is_a_reset(tmp_path: Path) -> None:
    with to_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        server.says(b"half of an ans")
        assert client.takes(14) == b"half of an ans"
        tunnel.envoy.process.kill()
        assert client.hears() == Heard(b"", "ECONNRESET")


def test_goaway_of_envoy_opens_a_new_tunnel_and_spares_what_runs(tmp_path: Path) -> None:
    with to_envoy(tmp_path) as tunnel:
        running_client, running_server = tunnel.connect()
        running_client.says(b"x")
        assert running_server.takes(1) == b"x"
        assert tunnel.envoy.stat(TUNNELS_IN) == 1
        tunnel.envoy.post("/drain_listeners?graceful&skip_exit")
        # Envoy says GOAWAY along with its next answer in that tunnel.
        asking, answering = tunnel.connect()
        asking.says(b"x")
        assert answering.takes(1) == b"x"

        def has_moved() -> bool:
            client, server = tunnel.connect()
            client.finishes()
            server.finishes()
            return tunnel.envoy.stat(TUNNELS_IN) >= 2

        eventually(has_moved, "a new connection takes a new tunnel")
        up, down = random_bytes(MIB, seed=5), random_bytes(MIB, seed=6)
        both_ways(running_client, running_server, up=up, down=down)
        running_client.says(b"end").finishes()
        assert running_server.hears() == Heard(b"end", "FIN")
        running_server.says(b"bye").finishes()
        assert running_client.hears() == Heard(b"bye", "FIN")


def test_our_drain_sends_envoy_away_and_spares_what_runs(tmp_path: Path) -> None:
    with from_envoy(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"x")
        assert server.takes(1) == b"x"
        tunnel.node.signal(signal.SIGTERM)
        tunnel.node.log.wait_for("draining")
        # Counted by Envoy when it hears our GOAWAY.
        eventually(lambda: tunnel.envoy.stat(AWAY) == 1, "Envoy has put the tunnel aside")
        up, down = random_bytes(MIB, seed=7), random_bytes(MIB, seed=8)
        both_ways(client, server, up=up, down=down)
        client.says(b"end").finishes()
        assert server.hears() == Heard(b"end", "FIN")
        server.says(b"bye").finishes()
        assert client.hears() == Heard(b"bye", "FIN")
        assert tunnel.node.wait() == 0
        tunnel.node.log.wait_for("drained")


@pytest.mark.parametrize(("way", "tunnels"), [(to_envoy, 3), (from_envoy, 3)])
def test_connections_past_the_limit_take_more_tunnels(
    tmp_path: Path, way: Between, tunnels: int
) -> None:
    with way(tmp_path) as tunnel:
        ends = [tunnel.connect() for _ in range(250)]
        for i, (client, server) in enumerate(ends):
            client.says(b"%d;" % i)
            server.says(b"%d;" % i)
        heard = {server.takes(len(b"%d;" % i)) for i, (_, server) in enumerate(ends)}
        assert len(heard) == 250
        assert [client.takes(len(b"%d;" % i)) for i, (client, _) in enumerate(ends)] == [
            b"%d;" % i for i in range(250)
        ]
        assert tunnel.envoy.stat(TUNNELS_IN if way is to_envoy else TUNNELS_OUT) == tunnels
        for client, server in ends:
            client.finishes()
            assert server.hears().end == "FIN"
            server.finishes()
            assert client.hears().end == "FIN"


@WAYS
def test_pings_of_both_keep_an_idle_tunnel(tmp_path: Path, way: Between) -> None:
    with way(tmp_path, deadlines={"pingInterval": "50ms", "pingTimeout": "1s"}) as tunnel:
        client, server = tunnel.connect()
        client.says(b"x")
        assert server.takes(1) == b"x"
        client.socket.settimeout(1.5)  # many intervals of ours, several of Envoy's
        assert client.hears() == Heard(b"", "nothing more")
        client.socket.settimeout(10)
        server.says(b"still here")
        assert client.takes(10) == b"still here"
        where = "http2" if way is to_envoy else "cluster.node.http2"
        assert tunnel.envoy.stat(f"{where}.keepalive_timeout") == 0


def test_connections_at_once_carry_bulk_through_small_windows(tmp_path: Path) -> None:
    with to_envoy(tmp_path) as tunnel, ThreadPoolExecutor(8) as threads:
        ends = [tunnel.connect() for _ in range(8)]
        exchanges = [
            threads.submit(
                both_ways,
                client,
                server,
                up=random_bytes(MIB, seed=10 + i),
                down=random_bytes(MIB, seed=20 + i),
            )
            for i, (client, server) in enumerate(ends)
        ]
        for exchange in exchanges:
            exchange.result()


TUNNELS_IN = "http.hbone.downstream_cx_total"
TUNNELS_OUT = "cluster.node.upstream_cx_total"
AWAY = "cluster.node.upstream_cx_close_notify"
