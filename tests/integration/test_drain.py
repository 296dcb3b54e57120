"""SIGTERM: what runs may finish, nothing new begins, and at the deadline the rest is cut and told so.

spec/dataplane.md §13. A node that drains must not hang, and must not pretend that a cut connection was complete.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Application, End, Heard, SocksReply, direct, through_socks5
from tests.support.nodes import Mesh, Node, as_text, eventually, http_get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.nodes import Address

# Long enough for what is expected to end before it, short enough to be waited for.
SHORT = "500ms"
LONG = "60s"
# From a deadline to the end of the process: a tenth of it on two idle cores, and a sixth of LONG.
GRACE = 10.0
# What the log says of a connection that was cut: of an application's, and of one that came through a tunnel.
CUT = {
    "near": "connection closed due to connection drain",
    "far": "connection failed to drain within the timeout",
}


@dataclass(frozen=True)
class Pair:
    """Two nodes and an application behind the far one."""

    mesh: Mesh
    near: Node
    far: Node
    application: Application
    target: str

    def connects(self) -> tuple[End, End]:
        """Both ends of a connection that stands, with a byte gone each way."""
        client, server = self.application.pair(partial(direct, self.near.forwards[self.target]))
        client.says(b"?")
        assert server.takes(1) == b"?"
        server.says(b"!")
        assert client.takes(1) == b"!"
        return client, server

    def node(self, which: str) -> Node:
        """`near` or `far`."""
        return self.near if which == "near" else self.far


@contextmanager
def nodes(folder: Path, *, drain: str) -> Iterator[Pair]:
    """Both nodes, with this deadline for both."""
    with Mesh(folder, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        target = as_text(application.address)
        far = stack.enter_context(Node(mesh, "server", drain=drain))
        near = stack.enter_context(
            Node(mesh, "client", forwards=[target], socks5=True, drain=drain)
        )
        yield Pair(mesh, near, far, application, target)


def begins_to_drain(node: Node, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal and wait until its work has begun."""
    node.signal(number)
    node.log.wait_for("draining")
    eventually(lambda: not _is_ready(node), f"{node.workload} is not ready any more")


def _is_ready(node: Node) -> bool:
    try:
        http_get(node.bound["readiness"], "/healthz/ready")
    except (OSError, AssertionError):
        return False
    return True


def _refuses(way_in: Address) -> bool:
    try:
        # Not closed but reset: one that still got in would wait, half open, for an application that never looks at it,
        # and the drain with it.
        End(direct(way_in)).resets()
    except ConnectionRefusedError:
        return True
    except OSError:  # taken, and reset when its listener was closed
        pass
    return False


@pytest.mark.parametrize("which", ["near", "far"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_connections_finish_and_then_the_node_ends(
    tmp_path: Path, which: str, number: signal.Signals
) -> None:
    with nodes(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        node = pair.node(which)
        begins_to_drain(node, number)
        client.says(b"after the signal").finishes()
        assert server.hears() == Heard(b"after the signal", "FIN")
        server.says(b"answered").closes()
        assert client.hears() == Heard(b"answered", "FIN")
        assert node.wait(within=GRACE) == 0
        line = node.access.wait_for("connection complete")
        assert "error" not in line, line
        node.log.wait_for("drained")


def test_node_without_connections_ends_at_once(tmp_path: Path) -> None:
    with nodes(tmp_path, drain=LONG) as pair:
        # An idle tunnel between the two is nothing to wait for.
        client, server = pair.connects()
        client.finishes()
        server.closes()
        assert client.hears().end == "FIN"
        for node in (pair.far, pair.near):
            node.access.wait_for("connection complete")
            assert node.terminate(within=GRACE) == 0


def test_connection_that_is_being_made_does_not_hold_the_drain_up(tmp_path: Path) -> None:
    """Its tunnel comes after the drain has begun, and nobody would end it when the connection has ended."""
    with nodes(tmp_path, drain=LONG) as pair:
        pair.far.signal(signal.SIGSTOP)
        client = pair.application.adopts(direct(pair.near.forwards[pair.target]))
        eventually(
            lambda: pair.near.metrics().total("istio_tcp_sockets_open", reporter="source") == 1,
            "the near node has taken the connection",
        )
        begins_to_drain(pair.near)
        pair.far.signal(signal.SIGCONT)
        server = pair.application.accepts()
        server.says(b"answered").closes()
        client.finishes()
        assert client.hears() == Heard(b"answered", "FIN")
        assert pair.near.wait(within=GRACE) == 0


def test_draining_near_node_refuses_new_connections(tmp_path: Path) -> None:
    with nodes(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        begins_to_drain(pair.near)
        # Every worker closes its own listeners, a moment after it has heard of the drain.
        for way_in in (pair.near.forwards[pair.target], pair.near.socks5):
            eventually(partial(_refuses, way_in), f"{way_in} refuses connections")
        server.closes()
        client.closes()
        assert pair.near.wait() == 0


def test_draining_far_node_refuses_new_connections_and_serves_the_running_one(
    tmp_path: Path,
) -> None:
    """The near node got GOAWAY: it must not put a new stream into the old tunnel, nor fail the old one."""
    with nodes(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        begins_to_drain(pair.far)
        # One that gets in before the last worker has closed its listener is reset, which is another reply.
        way_in = pair.far.bound["inbound"]
        eventually(partial(_refuses, way_in), f"{way_in} refuses connections")
        with pytest.raises(SocksReply) as reply:
            through_socks5(pair.near.socks5, *pair.application.address)
        told = pair.application.adopts(reply.value.connection)
        assert reply.value.code == 5
        assert told.hears() == Heard(b"", "ECONNRESET")
        server.says(b"still here").closes()
        assert client.hears() == Heard(b"still here", "FIN")
        client.closes()
        assert pair.far.wait() == 0


def test_connections_move_to_the_node_that_takes_the_place_of_a_draining_one(
    tmp_path: Path,
) -> None:
    """A rolling update: the old process drains its connections while the new one serves new ones."""
    with nodes(tmp_path, drain=LONG) as pair:
        old_client, old_server = pair.connects()
        begins_to_drain(pair.far)
        way_in = pair.far.bound["inbound"]
        eventually(partial(_refuses, way_in), f"{way_in} refuses connections")
        with Node(pair.mesh, "server", drain=LONG) as successor:
            client, server = pair.connects()
            server.says(b"from the new one").closes()
            assert client.hears() == Heard(b"from the new one", "FIN")
            client.closes()
            successor.access.wait_for("connection complete")
            old_server.says(b"from the old one").closes()
            assert old_client.hears() == Heard(b"from the old one", "FIN")
            old_client.closes()
            assert pair.far.wait() == 0


@pytest.mark.parametrize("which", ["near", "far"])
def test_what_still_runs_at_the_deadline_is_reset_and_logged(tmp_path: Path, which: str) -> None:
    with nodes(tmp_path, drain=SHORT) as pair:
        ends = [pair.connects() for _ in range(5)]
        node = pair.node(which)
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        for client, server in ends:
            assert client.hears() == Heard(b"", "ECONNRESET")
            assert server.hears() == Heard(b"", "ECONNRESET")
        took = time.monotonic() - began
        assert took >= 0.5, f"cut {took:.2f} s after the signal, before the deadline"
        assert node.wait(within=GRACE) == 0
        cut = node.access.all("connection complete", error=CUT[which])
        assert len(cut) == 5, node.access
        node.log.wait_for("connections were cut at the deadline")


def test_connection_whose_client_does_not_read_is_reset_at_the_deadline_too(
    tmp_path: Path,
) -> None:
    """Bytes that wait for a slow reader do not hold the process up."""
    with nodes(tmp_path, drain=SHORT) as pair:
        client, server = pair.connects()
        server.says_until_it_blocks(most=64 * 1024 * 1024)
        pair.near.signal(signal.SIGTERM)
        assert client.breaks() == "ECONNRESET"
        assert pair.near.wait(within=0.5 + GRACE) == 0
        assert server.says_until_it_breaks() == "ECONNRESET"


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_second_sigint_ends_the_node_at_once(tmp_path: Path, first: signal.Signals) -> None:
    with nodes(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        begins_to_drain(pair.near, first)
        pair.near.signal(signal.SIGINT)
        assert pair.near.wait(within=GRACE) == 0
        assert client.hears() == Heard(b"", "ECONNRESET")
        assert server.hears() == Heard(b"", "ECONNRESET")


def test_stalled_handshakes_and_negotiations_do_not_hold_the_node_up(tmp_path: Path) -> None:
    """Nobody waits for a client that never said what it wants."""
    with nodes(tmp_path, drain=SHORT) as pair:
        silent = pair.application.adopts(direct(pair.near.socks5))
        half = pair.application.adopts(direct(pair.far.bound["inbound"]))
        half.says(b"\x16\x03\x01")
        assert pair.near.terminate(within=0.5 + GRACE) == 0
        assert pair.far.terminate(within=0.5 + GRACE) == 0
        assert silent.hears().end == "ECONNRESET"
        assert half.hears().end in {"FIN", "ECONNRESET"}
