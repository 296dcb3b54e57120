"""A tunnel inside a tunnel: a client's node, another network's gateway, and the node behind it (spec/dataplane.md §2.4).

The gateway is the pure-Python server, which relays every request to the far node, whatever was asked for: it sees one
stream of bytes and has no part in the inner handshake. Both nodes are real and know different meshes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from bench.pure_python.identity import Credentials
from bench.pure_python.server import Server
from tests.support.apps import Application, End, Heard, direct, hears_at_once
from tests.support.certs import Authority
from tests.support.nodes import HBONE_PORT, Mesh, Node, eventually

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from bench.pure_python.flow import Flow
    from bench.pure_python.tunnel import Tunnel
    from tests.support.nodes import Fields

NETWORK = "127.9"
GATEWAY = "spiffe://cluster.local/ns/default/sa/gateway"
ECHO = "spiffe://cluster.local/ns/default/sa/echo"
STRANGER = "spiffe://cluster.local/ns/default/sa/stranger"
HOSTNAME = "echo.default.svc.cluster.local"
TARGET = f"{HOSTNAME}:80"
MIB = 1024 * 1024


class Gateway(Server):
    """Relays every request to one address."""

    behind: tuple[str, int]
    loop: asyncio.AbstractEventLoop

    def kill(self) -> None:
        """From whatever thread: a transport is its loop's, and a loop that sleeps would not see what another aborted."""
        self.loop.call_soon_threadsafe(super().kill)

    async def _connect(self, tunnel: Tunnel, flow: Flow, host: str, port: int) -> None:
        del host, port
        await super()._connect(tunnel, flow, *self.behind)


@contextmanager
def running(gateway: Gateway) -> Iterator[None]:
    """On a loop and a thread of its own."""
    loop = gateway.loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway")
    thread.start()

    def wait_for(work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    try:
        wait_for(gateway.__aenter__())
        try:
            yield
        finally:
            wait_for(gateway.__aexit__())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class World(NamedTuple):
    client: Node
    far: Node
    gateway: Gateway
    application: Application
    far_mesh: Mesh

    def pair(self) -> tuple[End, End]:
        """Both ends of a connection through all of it."""
        return self.application.pair(lambda: direct(self.client.forwards[TARGET]))


def near_mesh(mesh: Mesh, names: list[str]) -> None:
    """What the client's node knows: a service in another network, and the way there."""
    mesh.workload("client", network="near")
    gateway = mesh.workload("gateway", network="near")
    mesh.workload(
        "far-echo",
        network="far",
        workloadIps=[],
        networkGateway={"destination": f"near/{gateway}", "hboneMtlsPort": HBONE_PORT},
    )
    vips = [f"near/{mesh.address()}"]
    mesh.service("echo", {80: 8080}, "far-echo", vips=vips, subjectAltNames=names)


def far_mesh(mesh: Mesh) -> None:
    """What the node behind the gateway knows: itself."""
    mesh.workload(
        "echo",
        network="far",
        workloadName="echo-deployment",
        canonicalName="echo-service",
        clusterId="far-cluster",
    )
    mesh.service("echo", {80: 8080}, "echo", vips=[f"far/{mesh.address()}"])


@contextmanager
def world(folder: Path, *, names: list[str]) -> Iterator[World]:
    """The two nodes with a gateway between them; `names` are whom the client expects behind it."""
    with ExitStack() as stack:
        near, away = folder / "near", folder / "far"
        near.mkdir()
        away.mkdir()
        here = stack.enter_context(Mesh(near, network=NETWORK))
        there = stack.enter_context(Mesh(away, network=NETWORK))
        near_mesh(here, names)
        far_mesh(there)
        ca = str(folder / "ca")
        echo = stack.enter_context(Node(there, "echo", network="far", ca=ca))
        client = stack.enter_context(Node(here, "client", forwards=[TARGET], network="near", ca=ca))
        gateway = Gateway(
            credentials=credentials(folder / "gateway", Authority.of_node(folder / "ca")),
            listen=(here.address_of("gateway"), HBONE_PORT),
        )
        gateway.behind = (echo.address, HBONE_PORT)
        stack.enter_context(running(gateway))
        application = stack.enter_context(Application.listen(echo.address, 8080))
        yield World(client, echo, gateway, application, there)


def credentials(folder: Path, authority: Authority) -> Credentials:
    """The gateway's."""
    leaf = authority.leaf(GATEWAY)
    folder.mkdir()
    files = {name: folder / f"{name}.pem" for name in ("chain", "key", "roots")}
    files["chain"].write_bytes(leaf.chain)
    files["key"].touch(mode=0o600)
    files["key"].write_bytes(leaf.key)
    files["roots"].write_bytes((folder.parent / "ca" / "root.pem").read_bytes())
    return Credentials(**files)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("double"), names=[ECHO]) as made:
        yield made


def test_both_ends_are_told_by_those_who_prove_them(lab: World) -> None:
    near, far = len(lab.client.access), len(lab.far.access)
    client, server = lab.pair()
    client.says(b"question").finishes()
    assert server.hears() == Heard(b"question", "FIN")
    server.says(b"answer").closes()
    assert client.hears() == Heard(b"answer", "FIN")
    line = lab.client.access.wait_for("connection complete", after=near)
    assert line["dst.hbone_addr"] == TARGET
    assert line["dst.service"] == HOSTNAME
    assert line["dst.workload"] == "echo-deployment"
    assert line["dst.cluster"] == "far-cluster"
    assert line["dst.identity"] == ECHO
    assert (line["bytes_sent"], line["bytes_recv"]) == (8, 6)
    labels = {
        "reporter": "source",
        "destination_workload": "echo-deployment",
        "destination_principal": ECHO,
        "destination_service": HOSTNAME,
        "connection_security_policy": "mutual_tls",
        "response_flags": "-",
    }
    assert lab.client.metrics().total("istio_tcp_connections_opened_total", **labels) >= 1
    inbound = lab.far.access.wait_for("connection complete", after=far)
    assert inbound["src.identity"] == "spiffe://cluster.local/ns/default/sa/client"
    assert inbound["dst.service"] == HOSTNAME
    # The gateway has seen neither of them but the outer request, which does not say from which network it is.
    outer = lab.gateway.requests[-1]
    assert outer[":authority"] == TARGET
    assert "x-forwarded-network" not in outer


def test_ten_mebibytes_arrive_whole_in_both_directions_at_once(lab: World) -> None:
    question, answer = os.urandom(10 * MIB), os.urandom(10 * MIB)
    client, server = lab.pair()
    with ThreadPoolExecutor(4) as threads:
        ends = [
            threads.submit(lambda: client.says(question).finishes()),
            threads.submit(lambda: server.says(answer).finishes()),
        ]
        heard = [threads.submit(server.hears), threads.submit(client.hears)]
        for end in ends:
            end.result(60)
        for told, sent in zip(heard, (question, answer), strict=True):
            got = told.result(60)
            assert got.end == "FIN"
            assert hashlib.sha256(got.data).digest() == hashlib.sha256(sent).digest()


def test_a_reset_on_one_side_is_a_reset_on_the_other(lab: World) -> None:
    for forwards in (True, False):
        ends = lab.pair()
        one, other = ends if forwards else ends[::-1]
        one.says(b"half")
        assert other.takes(4) == b"half"
        one.resets()
        assert other.hears() == Heard(b"", "ECONNRESET")


def test_fifty_at_once_share_the_tunnel_to_the_gateway_and_none_behind_it(lab: World) -> None:
    inner = lab.far.metrics().total("ztunnel_handshakes_total", side="inbound")
    with ThreadPoolExecutor(50) as threads:
        clients = [threads.submit(direct, lab.client.forwards[TARGET]) for _ in range(50)]
        servers = [lab.application.accepts() for _ in clients]
        made = [End(client.result(10)) for client in clients]
    for index, client in enumerate(made):
        client.says(b"%02d" % index)
    assert sorted(server.takes(2) for server in servers) == [b"%02d" % i for i in range(50)]
    assert lab.far.metrics().total("ztunnel_handshakes_total", side="inbound") == inner + 50
    for end in (*made, *servers):
        end.closes()
    eventually(
        lambda: lab.client.metrics().total("ztunnel_tunnels_open", side="outbound") <= 2,
        "inner tunnels ended with their streams",
    )


def test_whoever_else_is_behind_the_gateway_is_refused(tmp_path: Path) -> None:
    with world(tmp_path, names=[STRANGER]) as lab:
        assert hears_at_once(lab.client.forwards[TARGET]).data == b""
        line = lab.client.access.wait_for("connection complete", direction="outbound")
        wanted = f"peer did not present the expected SAN ({STRANGER}), got {ECHO}"
        assert f"identity verification error: {wanted}" in line["error"]
        failed = {"response_flags": "CONNECT", "destination_principal": GATEWAY}
        eventually(
            lambda: lab.client.metrics().total("istio_tcp_connections_failed_total", **failed) == 1,
            "counted as failed",
        )


def test_a_service_without_names_can_be_nobodys(tmp_path: Path) -> None:
    with world(tmp_path, names=[]) as lab:
        assert hears_at_once(lab.client.forwards[TARGET]).data == b""
        line = lab.client.access.wait_for("connection complete", direction="outbound")
        assert f"expected SAN (), got {ECHO}" in line["error"]


def test_a_policy_behind_the_gateway_is_told_with_its_status(tmp_path: Path) -> None:
    with world(tmp_path, names=[ECHO]) as lab:
        lab.far_mesh.policies.append(deny_all())
        after = len(lab.far.log)
        lab.far_mesh.write()
        lab.far.log.wait_for("mesh applied", after=after)
        assert hears_at_once(lab.client.forwards[TARGET]).data == b""
        line = lab.client.access.wait_for("connection complete", direction="outbound")
        assert line["error"] == "http status: 401 Unauthorized"
        # Whoever sent the answer has proven itself first, but said nothing of itself.
        assert line["dst.workload"] == "gateway"


def deny_all() -> Fields:
    """Nobody may."""
    return {
        "name": "nobody",
        "namespace": "default",
        "scope": "Namespace",
        "action": "Deny",
        "rules": [[[{"notDestinationPorts": [1]}]]],
    }


def test_a_lost_gateway_is_a_reset_and_never_a_whole_answer(lab: World) -> None:
    client, server = lab.pair()
    server.says(b"half an ans")
    assert client.takes(11) == b"half an ans"
    lab.gateway.kill()
    assert client.hears() == Heard(b"", "ECONNRESET")
    assert isinstance(server.socket, socket.socket)
    server.closes()
