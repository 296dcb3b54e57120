"""Peers that go away without a word while connections run (F01, F02, F05): nobody is left waiting or misled."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.netns.capture import blackhole, heal
from tests.netns.pods import QUICK_PING
from tests.support.apps import Heard
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.netns.pods import Pod, Pods

pytestmark = pytest.mark.root

# `QUICK_PING` in pods.py: half a second between pings, one for the answer.
PING = 1.5
# Some milliseconds on idle cores; by pings it would take a node of this test ten seconds and more.
AT_ONCE = 5.0
# What slow cores may add; without pings nobody would ever know.
SLACK = 15.0


def test_a_killed_node_resets_the_client_at_once(pods: Pods, figure: Callable[[str], None]) -> None:
    client, server = pods.add("client"), pods.add("server")
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        theirs.says(b"half an ans")
        assert ours.takes(11) == b"half an ans"
        began = time.monotonic()
        server.node.kill()
        assert ours.hears() == Heard(b"", "ECONNRESET")
        took = time.monotonic() - began
        assert took < AT_ONCE
        # Its own application, too: half a conversation must not look like a whole one.
        assert theirs.hears() == Heard(b"", "ECONNRESET")
        # Nobody listens now: known at once, and not a FIN either.
        assert client.tries((server.address, 8080)) == Heard(b"", "ECONNRESET")
        refused = "io error: Connection refused (os error 111)"
        client.node.access.wait_for("connection complete", error=refused)
        server.node.start()
        began = time.monotonic()
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        theirs.says(b"answer").finishes()
        assert ours.hears() == Heard(b"answer", "FIN")
        again = time.monotonic() - began
        figure(f"{took * 1e3:.0f} ms to the RST, {again * 1e3:.0f} ms for the first one after")


def test_a_killed_node_of_the_client_resets_both_as_well(pods: Pods) -> None:
    client, server = pods.add("client"), pods.add("server")
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        ours.says(b"half a ques")
        assert theirs.takes(11) == b"half a ques"
        client.node.kill()
        assert theirs.hears() == Heard(b"", "ECONNRESET")
        assert ours.hears() == Heard(b"", "ECONNRESET")


def test_a_node_without_its_mark_meets_itself_and_stops(pods: Pods) -> None:
    # A mistake of whoever set it up: what the node sends is captured and comes back to it.
    client = pods.add("client", packetMark=None, deadlines={**QUICK_PING, "handshake": "1s"})
    server = pods.add("server")
    with pods.running():
        before = sockets(client)
        began = time.monotonic()
        assert client.tries((server.address, 8080)) == Heard(b"", "ECONNRESET")
        assert time.monotonic() - began < 1 + SLACK
        opened = client.node.metrics().total("istio_tcp_connections_opened_total")
        # At most once around every worker.
        assert opened <= 4
        eventually(lambda: sockets(client) <= before, "the sockets are closed")


@pytest.mark.parametrize("deaf", ["both", "client", "server"])
def test_a_dead_link_cuts_both_ends_when_the_ping_is_not_answered(
    pods: Pods, deaf: str, figure: Callable[[str], None]
) -> None:
    client = pods.add("client", deadlines=QUICK_PING)
    server = pods.add("server", deadlines=QUICK_PING)
    named = [("client", client), ("server", server)]
    with pods.running(), server.listens(8080) as app:
        before = sockets(client) + sockets(server)
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        ours.says(b"question")
        assert theirs.takes(8) == b"question"
        began = time.monotonic()
        hosts = [pod.host for name, pod in named if deaf in (name, "both")]
        blackhole(*hosts)
        assert ours.hears() == Heard(b"", "ECONNRESET")
        took = time.monotonic() - began
        assert theirs.hears() == Heard(b"", "ECONNRESET")
        both = time.monotonic() - began
        assert both < PING + SLACK
        figure(f"{took:.2f} s until the client knew, {both:.2f} s until both did")
        for name, pod in named:
            line = pod.node.access.wait_for("connection complete")
            if deaf in (name, "both"):
                assert "ping timeout" in line["error"]
        eventually(lambda: tunnels(client) == tunnels(server) == 0, "the tunnel is gone")
        eventually(lambda: sockets(client) + sockets(server) <= before, "the sockets are closed")
        heal(*hosts)
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        theirs.says(b"answer").finishes()
        assert ours.hears() == Heard(b"answer", "FIN")


def test_a_dead_link_also_cuts_a_client_that_cannot_send_any_more(pods: Pods) -> None:
    client = pods.add("client", deadlines=QUICK_PING)
    server = pods.add("server", deadlines=QUICK_PING)
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        ours.says(b"question")
        assert theirs.takes(8) == b"question"
        began = time.monotonic()
        blackhole(client.host, server.host)
        assert ours.says_until_it_breaks(bytes(1 << 20)) == "ECONNRESET"
        assert time.monotonic() - began < PING + SLACK
        assert theirs.hears().end == "ECONNRESET"


def test_a_link_that_was_dead_for_a_moment_loses_nothing(pods: Pods) -> None:
    client, server = pods.add("client"), pods.add("server")
    piece = bytes(range(256)) * 256
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        blackhole(server.host)
        ours.says(piece).finishes()
        # Its kernel has begun to send again what nobody acknowledges.
        eventually(lambda: "retrans:" in client.host.must("ss", "-tin"), "something was lost")
        heal(server.host)
        assert theirs.hears() == Heard(piece, "FIN")


def test_a_stopped_node_is_given_up_when_the_ping_is_not_answered(
    pods: Pods, figure: Callable[[str], None]
) -> None:
    client = pods.add("client", deadlines=QUICK_PING)
    server = pods.add("server")
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        ours.says(b"question")
        assert theirs.takes(8) == b"question"
        began = time.monotonic()
        server.node.signal(signal.SIGSTOP)
        assert ours.hears() == Heard(b"", "ECONNRESET")
        took = time.monotonic() - began
        assert took < PING + SLACK
        figure(f"{took:.2f} s until the client knew")
        line = client.node.access.wait_for("connection complete")
        assert "ping timeout" in line["error"]
        server.node.signal(signal.SIGCONT)
        assert theirs.hears() == Heard(b"", "ECONNRESET")


def test_a_node_that_was_stopped_for_a_moment_loses_nothing(pods: Pods) -> None:
    client, server = pods.add("client"), pods.add("server")
    piece = b"x" * 65536
    with pods.running(), server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((server.address, 8080)))
        ours.says(piece)
        assert theirs.takes(len(piece)) == piece
        server.node.signal(signal.SIGSTOP)
        ours.says(piece).finishes()
        server.node.signal(signal.SIGCONT)
        assert theirs.hears() == Heard(piece, "FIN")


def tunnels(pod: Pod) -> float:
    """That the node holds."""
    return pod.node.metrics().total("ztunnel_tunnels_open")


def sockets(pod: Pod) -> int:
    """That the node holds."""
    return pod.node.descriptors()["socket"]
