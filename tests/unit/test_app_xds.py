"""A node that learns the mesh from a control plane, from its start to its end, all made of memory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.delta import ADDRESS, POLICY, named
from tests.support.memory_ads import MemoryServer, MemoryStream
from ztunnel.app import EXIT_OK, Node, Parts
from ztunnel.clock import SystemClock
from ztunnel.endpoint import Endpoint, SystemRoots
from ztunnel.errors import EndpointUnreachable
from ztunnel.identity.spiffe import Identity
from ztunnel.local.schema import MeshDocument
from ztunnel.local.source import LocalMesh
from ztunnel.settings import CaSettings, NodeSettings, WorkloadName, XdsNode, XdsSettings
from ztunnel.testing import FakeCa, FakeDataPlane, FakeEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio

OWN = "spiffe://td/ns/n/sa/web"
MOVED = "spiffe://new.td/ns/n/sa/web"
ENDPOINT = Endpoint(host="istiod", port=15012, roots=SystemRoots(), cluster_id="c")


class Running:
    """A node, and the fakes around it."""

    def __init__(self, *, identity: Identity | None = None, on_demand: bool = False) -> None:
        self.server = MemoryServer()
        self.data_plane = FakeDataPlane()
        self.clock = SystemClock()
        self.ca = FakeCa(self.clock)
        self.asked: list[Endpoint] = []
        settings = NodeSettings(
            workload=WorkloadName(namespace="n", name="web"),
            ca=CaSettings(directory=None),
            drain=3.0,
            xds=XdsSettings(endpoint=ENDPOINT, node=XdsNode(), on_demand=on_demand),
        )
        parts = Parts(
            data_plane=self.make,
            ca=lambda settings: self.ca,
            clock=self.clock,
            ads=self.connect,
        )
        nothing = LocalMesh(
            document=MeshDocument(resources=()), path=Path("none"), signature=None, load=None
        )
        self.node = Node(settings, identity, nothing, parts, started=0.0, service_account="web")

    def make(self, settings: bytes) -> FakeDataPlane:
        self.data_plane.settings = settings
        return self.data_plane

    def connect(self, endpoint: Endpoint) -> MemoryStream:
        self.asked.append(endpoint)
        return self.server.connect()

    def synced(self) -> bool:
        return self.data_plane.synced

    async def until(self, condition: Callable[[], object], what: str = "a condition") -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - of threads and signals, which set no event here
                await asyncio.sleep(0.005)

    async def sync(self, number: int = 1) -> MemoryStream:
        """The first answers of a stream, taken."""
        stream = await self.server.stream(number)
        stream.answer(ADDRESS, [named("web")], nonce="1")
        stream.answer(POLICY, nonce="2")
        await self.server.until(lambda: len(stream.nonces()) == 2, "ACKs")
        return stream


@asynccontextmanager
async def running(
    caplog: pytest.LogCaptureFixture, one: Running | None = None
) -> AsyncIterator[tuple[Running, asyncio.Task[int]]]:
    caplog.set_level(logging.INFO, logger="ztunnel")
    one = one or Running()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(one.node.run())
        yield one, task
        if not task.done():
            await one.until(lambda: one.asked)
            os.kill(os.getpid(), signal.SIGTERM)
    one.data_plane.close()


async def test_f29_nothing_is_served_before_the_first_sync(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(caplog) as (one, _):
        stream = await one.server.stream(1)
        assert one.asked == [ENDPOINT]
        stream.answer(POLICY, nonce="1")
        await one.server.until(lambda: stream.nonces() == ["1"], "an ACK")
        assert not one.synced()
        assert "ready" not in caplog.messages
        stream.answer(ADDRESS, [named("web")], nonce="2")
        await one.server.until(lambda: len(stream.nonces()) == 2, "ACKs")
        assert one.synced()
        one.data_plane.say(FakeEvent(kind="credential_wanted", identity=OWN, detail="warmup"))
        await one.until(lambda: "ready" in caplog.messages)
    ready = next(record for record in caplog.records if record.message == "ready")
    assert ready.__dict__["fields"]["identity"] == OWN
    assert b'"serviceAccount":"web"' in one.data_plane.settings


async def test_who_we_are_comes_from_the_mesh_and_may_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(caplog) as (one, _):
        await one.sync()
        one.data_plane.say(FakeEvent(kind="credential_wanted", identity=OWN, detail="warmup"))
        await one.until(lambda: OWN in one.data_plane.certificates)
        # The workload is gone for a moment: its next connection should not wait for a certificate.
        one.data_plane.say(FakeEvent(kind="credential_idle", identity=OWN))
        one.data_plane.say(FakeEvent(kind="from the future"))
        await one.until(lambda: "an event that nobody knows" in caplog.messages)
        assert OWN in one.data_plane.certificates
        one.data_plane.say(
            FakeEvent(kind="credential_idle", identity=OWN),
            FakeEvent(kind="credential_wanted", identity=MOVED, detail="warmup"),
        )
        await one.until(lambda: MOVED in one.data_plane.certificates)
        assert OWN not in one.data_plane.certificates


async def test_an_identity_that_is_none_ends_no_node(caplog: pytest.LogCaptureFixture) -> None:
    async with running(caplog) as (one, task):
        await one.sync()
        # Of allowed characters, and longer than a SPIFFE ID may be: the data plane looks at a workload's parts.
        endless = f"{OWN}{'-' * 2048}"
        one.data_plane.say(FakeEvent(kind="credential_wanted", identity=endless, detail="warmup"))
        await one.until(lambda: task.done() or "ready" in caplog.messages)
        assert not task.done()
        assert "no certificate yet; tunnels wait for it" in caplog.messages
        one.data_plane.say(FakeEvent(kind="credential_wanted", identity=OWN, detail="warmup"))
        await one.until(lambda: OWN in one.data_plane.certificates)


async def test_who_a_file_says_we_are_is_asked_for_without_the_control_planes_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(caplog, Running(identity=Identity.parse(OWN))) as (one, _):
        await one.sync()
        await one.until(lambda: OWN in one.data_plane.certificates)
        await one.until(lambda: "ready" in caplog.messages)


async def test_a_mesh_that_has_not_our_workload_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ztunnel.app.FIRST_CERTIFICATE", 0.05)
    async with running(caplog) as (one, _):
        await one.sync()
        await one.until(lambda: "ready" in caplog.messages)
    line = next(r for r in caplog.records if r.message.startswith("no certificate yet"))
    assert line.__dict__["fields"]["error"] == "the mesh has no workload n/web of this node"


async def test_names_that_connections_wait_for_are_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(caplog, Running(on_demand=True)) as (one, _):
        stream = await one.sync()
        assert b'"onDemand":true' in one.data_plane.settings
        one.data_plane.say(FakeEvent(kind="resource_wanted", detail="/10.0.0.1"))
        await one.server.until(lambda: stream.said[-1].subscribe == ("/10.0.0.1",), "a question")
        stream.answer(ADDRESS, nonce="3", removed=["/10.0.0.1"])
        await one.until(lambda: one.data_plane.absent == ["/10.0.0.1"])


async def test_the_mesh_goes_on_while_connections_drain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(caplog) as (one, task):
        stream = await one.sync()
        one.data_plane.idle.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        await one.until(lambda: one.data_plane.drains)
        stream.answer(POLICY, [named("deny")], nonce="3")
        await one.server.until(lambda: "3" in stream.nonces(), "an ACK while draining")
        assert (POLICY, "deny") in one.data_plane.resources
        one.data_plane.idle.set()
        assert await task == EXIT_OK
        assert stream.closed


# C6: a signal at each stage of the start


async def test_c6_a_signal_ends_a_node_whose_control_plane_never_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(caplog) as (one, task):
        await one.server.stream(1)
        began = one.clock.now().monotonic
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == EXIT_OK
        assert one.clock.now().monotonic - began < 2
    assert not one.data_plane.synced


async def test_c6_a_signal_ends_a_node_whose_control_plane_is_not_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Running()
    one.server.trouble = [EndpointUnreachable("refused")] * 1000
    async with running(caplog, one) as (_, task):
        await one.until(lambda: len(one.data_plane.xds_ends) >= 3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == EXIT_OK


async def test_c6_a_signal_ends_a_node_in_the_middle_of_an_answer(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applying goes on in its thread until it is done: nothing is half applied."""
    monkeypatch.setattr("ztunnel.xds.client.INLINE", 1)
    async with running(caplog) as (one, task):
        stream = await one.server.stream(1)
        stream.answer(ADDRESS, [named("web")], nonce="1")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == EXIT_OK
    applied = one.data_plane.applied[1:]  # the first is the file's, which is empty
    assert applied in ([], [([(ADDRESS, "web")], [])])


async def test_a_node_without_a_control_plane_loads_nothing_of_it() -> None:
    program = (
        "import sys, ztunnel.cli.run, ztunnel.cli.proxy, ztunnel.app\n"
        "print(*(m for m in sys.modules if m.startswith(('ztunnel.xds', 'ztunnel.wire'))))"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
