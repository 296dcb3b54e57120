"""Ours and upstream's ztunnel carry each other's traffic: bytes, ends, tunnels for applications.

Each row stands for both directions, and for upstream with itself where that shows what is right. What the two tell of
it: `test_upstream_told.py`; shutdown, liveness and abnormal ends: `test_upstream_ends.py`.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from tests.interop.upstream import (
    ALSO_CONTROL,
    CLIENT,
    DENIED,
    ECHO,
    OURS,
    Exact,
    Town,
    says_hello,
)
from tests.support.apps import End, Heard
from tests.support.proxy_header import ProxyHeader, take_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.nodes import Address

pytestmark = [pytest.mark.root, pytest.mark.upstream, pytest.mark.timeout(60), ALSO_CONTROL]

TUNNEL_PORT = 15088
BIG = bytes(range(256)) * (10 * 1024 * 4)


def pod(town: Town) -> Address:
    """The server itself."""
    return town.server.address, ECHO


def web(town: Town) -> Address:
    """The service in front of it."""
    return town.web


WAYS = pytest.mark.parametrize("way", [pod, web])


@WAYS
def test_bytes_and_both_ends_arrive(calm: Town, way: Callable[[Town], Address]) -> None:
    with calm.server.listens(ECHO) as application:
        near, far = application.pair(lambda: calm.client.dials(way(calm)))
        near.says(b"question").finishes()
        assert far.hears() == Heard(b"question", "FIN")
        far.says(b"an answer after its FIN").finishes()
        assert near.hears() == Heard(b"an answer after its FIN", "FIN")


@WAYS
def test_the_server_may_speak_and_end_first(calm: Town, way: Callable[[Town], Address]) -> None:
    with calm.server.listens(ECHO) as application:
        near, far = application.pair(lambda: calm.client.dials(way(calm)))
        far.says(b"220 hello").finishes()
        assert near.hears() == Heard(b"220 hello", "FIN")
        near.says(b"quit").finishes()
        assert far.hears() == Heard(b"quit", "FIN")


@WAYS
def test_ten_mebibytes_arrive_whole_both_ways_at_once(
    calm: Town, way: Callable[[Town], Address]
) -> None:
    assert len(BIG) == 10 << 20
    heard: dict[str, str] = {}

    def hear(name: str, end: End) -> None:
        found = end.hears()
        heard[name] = f"{hashlib.sha256(found.data).hexdigest()} {found.end}"

    with calm.server.listens(ECHO) as application:
        ends = dict(
            zip(
                ("near", "far"), application.pair(lambda: calm.client.dials(way(calm))), strict=True
            )
        )
        readers = [threading.Thread(target=hear, args=item) for item in ends.items()]
        writers = [
            threading.Thread(target=lambda end=end: end.says(BIG).finishes())
            for end in ends.values()
        ]
        for thread in (*readers, *writers):
            thread.start()
        for thread in (*readers, *writers):
            thread.join(30)
    whole = f"{hashlib.sha256(BIG).hexdigest()} FIN"
    assert heard == {"near": whole, "far": whole}


def test_an_application_behind_proxy_headers_is_told_who_asks_for_what(town: Town) -> None:
    """The waypoint in a sandwich: a service leads to it, and the request names the service's address."""
    town.mesh.edit("server")["applicationTunnel"] = {"protocol": "PROXY", "port": TUNNEL_PORT}
    behind = town.mesh.service("behind", {443: ECHO}, "plain")
    waypoint = {"destination": f"/{town.server.address}", "hboneMtlsPort": 15008}
    town.mesh.edit_service(behind)["waypoint"] = waypoint
    asked = (town.mesh.vip(behind), 443)
    with town.running(), town.server.listens(TUNNEL_PORT) as application:
        near, far = application.pair(lambda: town.client.dials(asked))
        assert far.socket.getpeername()[0] == "127.0.0.1"
        header = take_header(far)
        assert header.source is not None
        assert header.source.startswith(f"{town.client.address}:")
        assert header == ProxyHeader(
            source=header.source, destination=f"{asked[0]}:{asked[1]}", identity=CLIENT
        )
        near.says(b"question").finishes()
        assert far.hears() == Heard(b"question", "FIN")
        far.says(b"an answer").finishes()
        assert near.hears() == Heard(b"an answer", "FIN")


def test_a_waypoint_without_headers_takes_what_is_for_those_behind_it(town: Town) -> None:
    waypoint = {"destination": f"/{town.server.address}", "hboneMtlsPort": 15008}
    town.mesh.edit("plain")["waypoint"] = waypoint
    with town.running():
        says_hello(town, (town.stranger.address, ECHO))
        line = town.far.access.wait_for("connection complete", direction="inbound")
        assert line["dst.hbone_addr"] == f"{town.stranger.address}:{ECHO}"
        assert line["dst.workload"] == "server"


@pytest.mark.parametrize(("account", "allowed"), [("client", True), ("other", False)])
def test_policy_knows_the_client_by_its_certificate(
    town: Town, account: str, allowed: bool
) -> None:
    principal = Exact(f"cluster.local/ns/default/sa/{account}")
    town.mesh.policies.append(town.mesh.policy("one", "Allow", {"principals": [principal]}))
    with town.running():
        if allowed:
            says_hello(town, town.web)
            return
        assert town.client.tries(town.web).data == b""
        line = town.near.access.wait_for("connection complete", direction="outbound")
        assert line["error"] == "http status: 401 Unauthorized"
        line = town.far.access.wait_for("connection complete", direction="inbound")
        assert line["error"].endswith("allow policies exist, but none allowed")


def test_data_that_was_sent_before_a_refusal_reaches_nobody(calm: Town) -> None:
    with calm.server.listens(DENIED) as application:
        heard = calm.client.tries((calm.server.address, DENIED), b"first flight" * 1000)
        assert heard.data == b""
        if calm.near.side == OURS:
            assert heard.end == "ECONNRESET"
        # Had anything of it come, it would be accepted before this.
        address = (calm.server.address, DENIED)
        near, far = application.pair(lambda: calm.server.dials(address, around=True))
        near.says(b"around").finishes()
        assert far.hears() == Heard(b"around", "FIN")


def test_policy_that_changes_ends_what_it_now_denies(town: Town) -> None:
    """Upstream reads its file once; as a receiver it has nothing to change."""
    with town.running(), town.server.listens(ECHO) as application:
        near, far = application.pair(lambda: town.client.dials(town.web))
        near.says(b"before")
        assert far.takes(6) == b"before"
        if town.far.side != OURS:
            return
        town.mesh.policies.append(town.mesh.policy("no-8080", "Deny", {"destinationPorts": [ECHO]}))
        town.mesh.write()
        assert far.hears() == Heard(b"", "ECONNRESET")
        # Upstream takes RST_STREAM(CANCEL) for an end like any other (spec/dataplane.md §20.2.20).
        assert near.hears() == Heard(b"", "FIN")
        line = town.far.access.wait_for("connection complete", direction="inbound")
        assert line["error"] == "connection closed due to policy change"
        assert town.client.tries(town.web).data == b""
        line = town.near.access.wait_for(error="http status: 401 Unauthorized")
