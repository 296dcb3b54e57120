"""A captured client, and a pod whose application takes PROXY headers: what it is told, and that nobody else tells it.

spec/dataplane.md §3.7, §3.8; spec/reliability.md T24. More of it without namespaces:
tests/integration/test_application_tunnel.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Heard, direct, hears_at_once
from tests.support.proxy_header import SIGNATURE, ProxyHeader, take_header

if TYPE_CHECKING:
    from tests.netns.pods import Pod, Pods

pytestmark = pytest.mark.root

TUNNEL_PORT = 15088
CLIENT = "spiffe://cluster.local/ns/default/sa/client"
FORGED = "takes PROXY headers, which only the mesh may write"


def taking_headers(pods: Pods, *, original_source: bool = True) -> Pod:
    """A pod whose application takes headers."""
    server = pods.add("server", originalSource=original_source)
    pods.mesh.edit("server")["applicationTunnel"] = {"protocol": "PROXY", "port": TUNNEL_PORT}
    return server


@pytest.mark.parametrize("original_source", [True, False])
def test_the_application_is_told_of_the_client_and_reached_on_loopback(
    pods: Pods, original_source: bool
) -> None:
    client = pods.add("client")
    server = taking_headers(pods, original_source=original_source)
    with pods.running(), server.listens(TUNNEL_PORT) as application:
        ours, theirs = application.pair(lambda: client.dials((server.address, 8080)))
        assert theirs.socket.getpeername()[0] == "127.0.0.1"
        assert theirs.socket.getsockname() == ("127.0.0.1", TUNNEL_PORT)
        header = take_header(theirs)
        # The client's node has dialled; its port is its own, its address is the pod's.
        assert header.source is not None
        assert header.source.startswith(f"{client.address}:")
        assert header == ProxyHeader(
            source=header.source, destination=f"{server.address}:8080", identity=CLIENT
        )
        ours.says(b"question").finishes()
        assert theirs.hears() == Heard(b"question", "FIN")
        theirs.says(b"an answer").finishes()
        assert ours.hears() == Heard(b"an answer", "FIN")
        line = server.node.access.wait_for("connection complete")
        assert (line["bytes_sent"], line["bytes_recv"]) == (9, 8)


def test_who_has_no_tunnel_cannot_tell_the_application_anything(pods: Pods) -> None:
    server = taking_headers(pods)
    stranger = pods.network.host("10.77.0.9")
    with pods.running(), server.listens(TUNNEL_PORT), server.listens(8080) as other:
        heard = stranger.call(hears_at_once, (server.address, TUNNEL_PORT))
        assert heard == Heard(b"", "ECONNRESET")
        line = server.node.access.wait_for("connection failed", direction="inbound")
        assert FORGED in line["error"]
        assert line["dst.addr"] == f"{server.address}:{TUNNEL_PORT}"
        # Every other port of the pod is its own matter, whatever it is sent.
        client, theirs = other.pair(lambda: stranger.call(direct, (server.address, 8080)))
        client.says(SIGNATURE).finishes()
        assert theirs.hears() == Heard(SIGNATURE, "FIN")
