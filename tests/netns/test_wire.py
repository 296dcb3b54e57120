"""What an onlooker between two pods sees: tunnels on one port, and not a byte of what they carry (A5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.netns.wire import Tap
from tests.support.apps import Heard

if TYPE_CHECKING:
    from pathlib import Path

    from tests.netns.pods import Pod, Pods
    from tests.support.nodes import Address

pytestmark = pytest.mark.root

MARKER = b"clear text that nobody else may read; "
MARKERS = MARKER * 8192


def test_only_tunnels_are_on_the_wire_and_nothing_in_them_can_be_read(
    pods: Pods, tmp_path: Path
) -> None:
    client, server = pods.add("client"), pods.add("server")
    vip = pods.mesh.vip(pods.mesh.service("web", {80: 8080}, "server"))
    with pods.running(), Tap(pods.network, client.host, tmp_path) as tap:
        # From the first handshake on, by service and by pod, both ways.
        exchange(client, server, (vip, 80))
        exchange(client, server, (server.address, 8080))
        exchange(server, client, (client.address, 8080))
    assert len(tap.packets("tcp port 15008")) > 100
    assert tap.strangers() == []
    assert MARKER not in tap.bytes
    # The certificates, with who talks to whom, are part of what TLS 1.3 hides.
    assert b"spiffe://" not in tap.bytes


def test_the_onlooker_does_see_what_goes_around_the_nodes(pods: Pods, tmp_path: Path) -> None:
    client, server = pods.add("client"), pods.add("server")
    with server.node, Tap(pods.network, client.host, tmp_path) as tap:
        exchange(client, server, (server.address, 8080), around=True)
    assert MARKER in tap.bytes
    assert tap.strangers() != []


def test_without_its_node_a_pod_says_nothing_at_all(pods: Pods, tmp_path: Path) -> None:
    client, server = pods.add("client"), pods.add("server")
    with server.listens(8080), Tap(pods.network, client.host, tmp_path) as tap:
        assert client.tries((server.address, 8080), MARKER) == Heard(b"", "ECONNREFUSED")
    assert tap.packets("tcp") == []


def exchange(client: Pod, server: Pod, address: Address, *, around: bool = False) -> None:
    """The marker, many times, from the client and back from the server."""
    with server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials(address, around=around))
        # Less than the buffers on the way hold, so that one thread can be both ends.
        ours.says(MARKERS).finishes()
        assert theirs.hears() == Heard(MARKERS, "FIN")
        theirs.says(MARKERS).finishes()
        assert ours.hears() == Heard(MARKERS, "FIN")
