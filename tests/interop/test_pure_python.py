"""bench/pure_python as the peer, both ways: another implementation of the same tunnel, half-close included.

It needs nothing that is not in the tree, so these run with the ordinary tests too.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop.process import Running, running
from tests.interop.transfer import MIB, both_ways, random_bytes, refusal
from tests.support.apps import Application, End, Heard, direct
from tests.support.certs import Authority
from tests.support.nodes import HBONE_PORT, ROOT, Mesh, Node, as_address, as_text, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
STRANGER = "spiffe://cluster.local/ns/default/sa/stranger"
ELSEWHERE = "spiffe://elsewhere.example/ns/default/sa/client"


class Tunnel(NamedTuple):
    """A client's connection leads to `app`, through our node and through the other implementation."""

    node: Node
    peer: Running
    app: Application
    way_in: tuple[str, int]

    def connect(self) -> tuple[End, End]:
        """Both ends of a connection that is established all the way."""
        return self.app.pair(lambda: direct(self.way_in))


Between = Callable[..., AbstractContextManager[Tunnel]]


@contextmanager
def to_python(folder: Path, *, its_name: str = SERVER, **more: object) -> Iterator[Tunnel]:
    """Our node is the client."""
    with Mesh(folder, network="127.3") as mesh:
        mesh.workload("client")
        far = mesh.workload("server")
        with Application.listen(far) as app:
            target = as_text(app.address)
            with Node(mesh, "client", forwards=[target], workers=1, **more) as node:  # type: ignore[arg-type]
                _credentials(folder, its_name)
                with serving(folder, far) as peer:
                    yield Tunnel(node, peer, app, node.forwards[target])


@contextmanager
def serving(folder: Path, here: str) -> Iterator[Running]:
    """The other implementation as a server, ready."""
    with _pure_python("serve", folder, "--listen", f"{here}:{HBONE_PORT}", "--drain", "10") as peer:
        peer.output.wait(lambda line: line.startswith("ready "))
        yield peer


@contextmanager
def from_python(
    folder: Path, *, its_name: str = CLIENT, expects: str = SERVER, **more: object
) -> Iterator[Tunnel]:
    """Our node is the server."""
    with Mesh(folder, network="127.3") as mesh:
        near, far = mesh.workload("client"), mesh.workload("server")
        with Application.listen(far) as app, Node(mesh, "server", drain="10s", **more) as node:  # type: ignore[arg-type]
            _credentials(folder, its_name)
            where = ["--peer", as_text(node.bound["inbound"]), "--listen", f"{near}:0"]
            whom = ["--authority", as_text(app.address), "--expect", expects]
            with _pure_python("connect", folder, *where, *whom) as peer:
                (line,) = peer.output.wait(lambda line: line.startswith("ready "))
                yield Tunnel(node, peer, app, as_address(line.removeprefix("ready ")))


def _credentials(folder: Path, name: str) -> None:
    leaf = Authority.of_node(folder / "ca").leaf(name)
    own = folder / "python"
    own.mkdir()
    (own / "key.pem").touch(mode=0o600)
    (own / "key.pem").write_bytes(leaf.key)
    (own / "chain.pem").write_bytes(leaf.chain)
    (own / "roots.pem").write_bytes((folder / "ca" / "root.pem").read_bytes())


def _pure_python(verb: str, folder: Path, *options: str) -> AbstractContextManager[Running]:
    command = [sys.executable, "-m", "bench.pure_python", verb, "--certs", str(folder / "python")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return running(f"pure_python {verb}", *command, *options, environment=environment)


WAYS = pytest.mark.parametrize("way", [to_python, from_python])


@WAYS
def test_bytes_arrive_whole_both_ways(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        up, down = random_bytes(8 * MIB, seed=1), random_bytes(8 * MIB, seed=2)
        both_ways(client, server, up=up, down=down)


@WAYS
def test_both_sides_know_each_other(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.says(b"answer").finishes()
        assert client.hears() == Heard(b"answer", "FIN")
        line = tunnel.node.access.wait_for("connection complete")
        assert (line["src.identity"], line["dst.identity"]) == (CLIENT, SERVER)
        # "Sent" is what leaves the node, toward its application where it is the server.
        up, down = (
            ("bytes_sent", "bytes_recv") if way is to_python else ("bytes_recv", "bytes_sent")
        )
        assert (line[up], line[down]) == (8, 6)
        assert "error" not in line


def test_we_refuse_a_server_with_another_name(tmp_path: Path) -> None:
    with to_python(tmp_path, its_name=STRANGER) as tunnel:
        assert refusal(tunnel.way_in) == Heard(b"", "ECONNRESET")
        tunnel.node.access.wait_for(error=re.compile(f"expected SAN.*{SERVER}.*{STRANGER}"))


def test_we_refuse_a_client_of_another_trust_domain(tmp_path: Path) -> None:
    with from_python(tmp_path, its_name=ELSEWHERE) as tunnel:
        assert refusal(tunnel.way_in) == Heard(b"", "ECONNRESET")
        tunnel.node.access.wait_for(error=re.compile(f"expected trustdomain.*{ELSEWHERE}"))


def test_a_client_that_expects_another_refuses_us(tmp_path: Path) -> None:
    with from_python(tmp_path, expects=STRANGER) as tunnel:
        assert refusal(tunnel.way_in) == Heard(b"", "ECONNRESET")
        tunnel.peer.errors.wait(lambda line: f"expected one of ['{STRANGER}']" in line)


@WAYS
def test_client_half_close_leaves_the_answer_flowing(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.says(random_bytes(64 * 1024, seed=3)).finishes()
        assert client.hears() == Heard(random_bytes(64 * 1024, seed=3), "FIN")


@WAYS
def test_server_half_close_leaves_the_request_flowing(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        server.says(b"greeting").finishes()
        assert client.hears() == Heard(b"greeting", "FIN")
        client.says(random_bytes(64 * 1024, seed=4)).finishes()
        assert server.hears() == Heard(random_bytes(64 * 1024, seed=4), "FIN")


@WAYS
@pytest.mark.parametrize("who", ["client", "server"])
def test_reset_arrives_as_reset(tmp_path: Path, way: Between, who: str) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        breaking, waiting = (client, server) if who == "client" else (server, client)
        breaking.says(b"before")
        assert waiting.takes(6) == b"before"
        breaking.resets()
        assert waiting.hears() == Heard(b"", "ECONNRESET")


@WAYS
def test_killed_peer_is_a_reset(tmp_path: Path, way: Between) -> None:
    with way(tmp_path) as tunnel:
        client, server = tunnel.connect()
        at_node = client if way is to_python else server
        other = server if way is to_python else client
        other.says(b"half of an ans")
        assert at_node.takes(14) == b"half of an ans"
        tunnel.peer.kill()
        assert at_node.hears() == Heard(b"", "ECONNRESET")


def test_goaway_of_the_server_spares_what_runs_and_new_connections_go_elsewhere(
    tmp_path: Path,
) -> None:
    with to_python(tmp_path) as tunnel:
        running_client, running_server = tunnel.connect()
        running_client.says(b"x")
        assert running_server.takes(1) == b"x"
        tunnel.peer.ask_to_end()
        here = tunnel.app.address[0]
        eventually(
            lambda: not _listens(here, HBONE_PORT), "the draining server has closed its port"
        )
        # It goes on with its stream; this one takes the port over.
        with serving(tmp_path, here):
            client, server = tunnel.connect()
            both_ways(client, server, up=b"new" * 1000, down=b"tunnel" * 1000)
            up, down = random_bytes(MIB, seed=5), random_bytes(MIB, seed=6)
            both_ways(running_client, running_server, up=up, down=down)
            running_client.finishes()
            assert running_server.hears() == Heard(b"", "FIN")
            running_server.says(b"bye").finishes()
            assert running_client.hears() == Heard(b"bye", "FIN")
            assert tunnel.peer.wait() == 0


def test_our_drain_spares_what_runs(tmp_path: Path) -> None:
    with from_python(tmp_path) as tunnel:
        client, server = tunnel.connect()
        client.says(b"x")
        assert server.takes(1) == b"x"
        tunnel.node.signal(signal.SIGTERM)
        tunnel.node.log.wait_for("draining")
        up, down = random_bytes(MIB, seed=7), random_bytes(MIB, seed=8)
        both_ways(client, server, up=up, down=down)
        client.finishes()
        assert server.hears() == Heard(b"", "FIN")
        server.says(b"bye").finishes()
        assert client.hears() == Heard(b"bye", "FIN")
        assert tunnel.node.wait() == 0
        tunnel.node.log.wait_for("drained")


def _listens(host: str, port: int) -> bool:
    """As the kernel tells it: to knock would make a connection that the server waits for."""
    address = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1] == address and line.split()[3] == "0A" for line in lines)


# A second is long for whoever is awake, also beside others.
PINGS = {"pingInterval": "50ms", "pingTimeout": "1s"}


@WAYS
def test_pings_are_answered_while_the_tunnel_works_and_while_it_idles(
    tmp_path: Path, way: Between
) -> None:
    with way(tmp_path, deadlines=PINGS) as tunnel:
        client, server = tunnel.connect()
        until = time.monotonic() + 1.5  # many intervals, and more than a timeout
        while time.monotonic() < until:
            client.says(b"x")
            assert server.takes(1) == b"x"
        client.socket.settimeout(1.5)  # idle: nothing may come, least of all a reset
        assert client.hears() == Heard(b"", "nothing more")
        client.socket.settimeout(10.0)
        server.says(b"still here")
        assert client.takes(10) == b"still here"


@WAYS
def test_a_peer_that_answers_no_ping_is_given_up(tmp_path: Path, way: Between) -> None:
    with way(tmp_path, deadlines=PINGS) as tunnel:
        client, server = tunnel.connect()
        client.says(b"x")
        assert server.takes(1) == b"x"
        tunnel.peer.signal(signal.SIGSTOP)
        try:
            at_node = client if way is to_python else server
            assert at_node.hears() == Heard(b"", "ECONNRESET")
        finally:
            tunnel.peer.signal(signal.SIGCONT)
        tunnel.node.access.wait_for("connection complete", error=re.compile("ping timeout"))
