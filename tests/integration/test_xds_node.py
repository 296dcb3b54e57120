"""Whole nodes under one istiod: the compiled data plane, mesh and certificates over real TLS gRPC, real connections."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.http import Answered, ask
from ztunnel.app import Node, real_parts
from ztunnel.endpoint import Endpoint, RootFile, TokenText
from ztunnel.local.schema import MeshDocument
from ztunnel.local.source import LocalMesh
from ztunnel.settings import (
    Forward,
    IstioCaSettings,
    Listen,
    NodeSettings,
    WorkloadName,
    XdsNode,
    XdsSettings,
)
from ztunnel.testing.istiod import ADDRESS, AUTHORIZATION, FakeIstiod, mesh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ztunnel.testing.istiod.observed import Stream

pytestmark = pytest.mark.asyncio

CLIENT, SERVER = "127.6.0.1", "127.6.0.2"
TARGET = f"{SERVER}:8080"
DEADLINE = 30.0


class Running:
    """A node of one workload."""

    def __init__(
        self, istiod: FakeIstiod, folder: Path, name: str, address: str, *, on_demand: bool
    ) -> None:
        roots = folder / "roots.pem"
        roots.write_text(istiod.certificates.bundle)
        self.endpoint = Endpoint(
            host=istiod.port.host,
            port=istiod.port.port,
            roots=RootFile(roots),
            token=TokenText(istiod.tokens.issue("default", name, name)),
            cluster_id=istiod.cluster_id,
        )
        settings = NodeSettings(
            workload=WorkloadName(namespace="default", name=name),
            ca=IstioCaSettings(endpoint=self.endpoint, leaf_lifetime=3600.0),
            xds=XdsSettings(
                endpoint=self.endpoint,
                node=XdsNode(
                    pod=name, namespace="default", instance_ip=address, name=f"node-{name}"
                ),
                on_demand=on_demand,
            ),
            listen=Listen(
                inbound=f"{address}:15008", metrics=f"{address}:0", readiness=f"{address}:0"
            ),
            forwards=(Forward(listen=f"{address}:0", to=TARGET),),
            workers=1,
            drain=1.0,
        )
        nothing = LocalMesh(
            document=MeshDocument(resources=()), path=Path("none"), signature=None, load=None
        )
        self.node = Node(settings, None, nothing, real_parts(), started=0.0, service_account=name)
        self.bound: dict[str, str] = {}
        start = self.node._data_plane.start

        def started(operators: Any = ()) -> dict[str, str]:
            self.bound = start(operators)
            return self.bound

        self.node._data_plane.start = started  # type: ignore[method-assign]

    def address(self, listener: str) -> tuple[str, int]:
        host, _, port = self.bound[listener].rpartition(":")
        return host, int(port)

    async def ask(self, listener: str, path: str) -> Answered:
        return await asyncio.to_thread(ask, self.address(listener), "GET", path)

    async def until_bound(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while not self.bound:  # noqa: ASYNC110 - the data plane says it to nobody
                await asyncio.sleep(0.005)

    async def ready(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.node._synced.wait()


@asynccontextmanager
async def running(
    istiod: FakeIstiod, folder: Path, name: str, address: str, *, on_demand: bool = False
) -> AsyncIterator[Running]:
    one = Running(istiod, folder, name, address, on_demand=on_demand)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.node.run())
        try:
            await one.until_bound()
            yield one
        finally:
            one.node._quit()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Talk:
    """A connection of the client's application."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, text: bytes) -> bytes:
        """What comes back; nothing if the connection ends."""
        async with asyncio.timeout(DEADLINE):
            self.writer.write(text)
            await self.writer.drain()
            try:
                return await self.reader.readexactly(len(text))
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""

    async def cut(self) -> None:
        """Waits for its end."""
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionError):
                assert await self.reader.read(1) == b""


@asynccontextmanager
async def talking(one: Running) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection(*one.address("forwards[0]"))
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()


async def is_denied(one: Running) -> bool:
    """Whether a new connection comes to nothing; its reset may be here before it was made."""
    try:
        async with talking(one) as talk:
            return await talk.say(b"denied") == b""
    except ConnectionError:
        return True


@asynccontextmanager
async def two_nodes(
    tmp_path: Path, *, on_demand: bool = False
) -> AsyncIterator[tuple[FakeIstiod, Running, Running]]:
    async with AsyncExitStack() as stack:
        istiod = await stack.enter_async_context(FakeIstiod())
        application = await asyncio.start_server(echo, SERVER, 8080)
        stack.push_async_callback(application.wait_closed)
        stack.callback(application.close)
        server, client = [
            await stack.enter_async_context(
                running(istiod, tmp_path, name, address, on_demand=on_demand)
            )
            for name, address in (("server", SERVER), ("client", CLIENT))
        ]
        yield istiod, client, server


CLIENT_POD = mesh.workload("client", ip=CLIENT, node="node-client")
SERVER_POD = mesh.workload("server", ip=SERVER, node="node-server")


@asynccontextmanager
async def two_ready_nodes(
    tmp_path: Path, *, on_demand: bool = False
) -> AsyncIterator[tuple[FakeIstiod, Running]]:
    """Both know each other, and their istiod has heard that; gives it and the client's node."""
    async with two_nodes(tmp_path, on_demand=on_demand) as (istiod, client, server):
        istiod.put(CLIENT_POD, SERVER_POD)
        await istiod.synced(2)
        await client.ready()
        await server.ready()
        await istiod.answered()
        yield istiod, client


async def test_f29_traffic_waits_for_the_first_sync_and_then_goes_through_a_tunnel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ztunnel")
    async with FakeIstiod() as istiod:
        istiod.put(CLIENT_POD)
        await istiod.stop()
        async with running(istiod, tmp_path, "client", CLIENT) as client:
            answer = await client.ask("readiness", "/healthz/ready")
            assert (answer.status, answer.body) == (500, b"not ready, pending: state manager\n")
            async with talking(client) as talk:
                talk.writer.write(b"early")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await talk.reader.read(1)
            await istiod.start()
            await client.ready()
            answer = await client.ask("readiness", "/healthz/ready")
            assert (answer.status, answer.body) == (200, b"ready\n")


async def test_two_nodes_learn_each_other_and_a_policy_cuts_what_it_forbids(
    tmp_path: Path,
) -> None:
    async with two_ready_nodes(tmp_path) as (istiod, client):
        async with talking(client) as talk:
            assert await talk.say(b"hello") == b"hello"
            deny = mesh.policy("no", deny=True, principals=["cluster.local/ns/default/sa/client"])
            istiod.put(deny)
            await istiod.answered()
            await talk.cut()
        assert await is_denied(client)
        istiod.remove(deny)
        await istiod.answered()
        async with talking(client) as talk:
            assert await talk.say(b"again") == b"again"


async def test_f30_traffic_does_not_notice_that_the_control_plane_dies_and_comes_back(
    tmp_path: Path,
) -> None:
    async with two_ready_nodes(tmp_path) as (istiod, client):
        async with talking(client) as talk:
            assert await talk.say(b"one") == b"one"
            await istiod.stop()
            assert await talk.say(b"two") == b"two"
            async with talking(client) as other:
                assert await other.say(b"three") == b"three"
            await istiod.start()
            await istiod.synced(2)
            for stream in istiod.live():
                (told,) = stream.told(ADDRESS)
                assert (told.versions, told.removed) == ((), ())
            assert await talk.say(b"four") == b"four"
        page = (await client.ask("metrics", "/metrics")).body.decode()
        assert f'istio_xds_message_total{{url="{ADDRESS}"}}' in page
        assert f'istio_xds_message_total{{url="{AUTHORIZATION}"}}' in page
        assert 'istio_xds_connection_terminations_total{reason="Reconnect"} 1' in page


async def test_f32_what_is_broken_is_named_and_everything_else_is_served(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (istiod, client, server):
        istiod.put(CLIENT_POD, SERVER_POD)
        await istiod.synced(2)
        istiod.put(
            *(mesh.workload(f"pod-{i}", ip=f"10.1.{i >> 8}.{i & 255}") for i in range(2000)),
            mesh.broken_address("broken"),
            mesh.without_payload("empty"),
        )
        text = await istiod.nacked(ADDRESS)
        await istiod.answered()
        refused = sorted(text.split("; "))
        assert refused[0].startswith("broken: decode: ")
        assert refused[1:] == ["empty: XDS payload without resource"]
        assert len(client.node._data_plane.dump("workloads")) > 2000 * 100
        await client.ready()
        await server.ready()
        async with talking(client) as talk:
            assert await talk.say(b"fine") == b"fine"
        istiod.port.abort()

        def resumed() -> list[Stream]:
            return [s for s in istiod.live() if s.number > 2 and s.told(ADDRESS)]

        await istiod.observed.wait(lambda: len(resumed()) == 2, "two more streams")
        for stream in resumed():
            (told,) = stream.told(ADDRESS)
            # The server sends again what was not recorded, and nothing else.
            assert sorted(name for name, _ in told.versions) == ["broken", "empty"]


async def test_17_3_7_a_node_asks_for_what_its_connection_needs_and_waits_for_it(
    tmp_path: Path,
) -> None:
    async with two_ready_nodes(tmp_path, on_demand=True) as (istiod, client):
        assert SERVER_POD.name.encode() not in client.node._data_plane.dump("workloads")
        async with talking(client) as talk:
            assert await talk.say(b"hello") == b"hello"
        # Through a tunnel, which only whoever knows the server's workload makes.
        assert SERVER_POD.name.encode() in client.node._data_plane.dump("workloads")
        (stream,) = [s for s in istiod.live() if s.name == "client.default"]
        asked = [list(request.subscribe) for request in stream.asked(ADDRESS)]
        assert [f"/{SERVER}"] in asked
