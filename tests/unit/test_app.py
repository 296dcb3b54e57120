"""A node from its start to its end, with a data plane made of memory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ztunnel.app import EXIT_FAILED, EXIT_OK, Node, Parts
from ztunnel.clock import SystemClock
from ztunnel.errors import CaFolderError, CaUnavailable, MeshFileError
from ztunnel.nodefile import load_node_file
from ztunnel.testing import FakeCa, FakeDataPlane, FakeEvent, FakeRejection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

OWN = "spiffe://cluster.local/ns/n/sa/default"
SIGTERM = "received signal SIGTERM, starting shutdown"
OTHER = "spiffe://cluster.local/ns/n/sa/other"
FILE = """
node: {workload: n/web, ca: {directory: ca}, drain: 3s, listen: {admin: "127.0.0.1:0"}}
workloads:
- {name: web, namespace: n, workloadIps: [127.0.0.1]}
"""


class Running:
    """A node that runs, and the fakes around it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "node.yaml"
        self.path.write_text(FILE)
        self.data_plane = FakeDataPlane()
        self.clock = SystemClock()
        self.ca = FakeCa(self.clock)
        parts = Parts(
            data_plane=lambda settings: self.data_plane,
            ca=lambda settings: self.ca,
            clock=self.clock,
        )
        file = load_node_file(self.path)
        started = self.clock.now().monotonic
        self.node = Node(file.settings, file.identity, file.mesh, parts, started=started)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - of threads and signals, which set no event here
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[tuple[Running, asyncio.Task[int]]]:
    caplog.set_level(logging.INFO, logger="ztunnel")
    one = Running(folder)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(one.node.run())
        await one.until(lambda: "ready" in caplog.messages or task.done())
        yield one, task
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
    one.data_plane.close()


@pytest.mark.asyncio
async def test_ready_means_mesh_applied_and_certificate_installed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, caplog) as (one, _):
        assert one.data_plane.synced
        assert list(one.data_plane.certificates) == [OWN]
        assert len(one.data_plane.resources) == 1
        ready = next(record for record in caplog.records if record.message == "ready")
        about = ready.__dict__["fields"]
        assert about["inbound"] == "127.0.0.1:15008"
        assert about["identity"] == OWN
        assert about["ms"] >= 0


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_with_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: signal.Signals
) -> None:
    async with running(tmp_path, caplog) as (one, task):
        os.kill(os.getpid(), number)
        assert await task == EXIT_OK
        assert one.data_plane.drains == [3.0]
        assert one.data_plane.stopped.is_set()
        assert caplog.messages[-1] == "drained"


@pytest.mark.asyncio
async def test_a_second_signal_ends_the_drain_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, caplog) as (one, task):
        one.data_plane.idle.clear()
        started = one.clock.now().monotonic
        os.kill(os.getpid(), signal.SIGINT)
        await one.until(lambda: one.data_plane.drains != [])
        os.kill(os.getpid(), signal.SIGINT)
        assert await task == EXIT_OK
        assert one.clock.now().monotonic - started < 2
        assert one.data_plane.stopped.is_set()


@pytest.mark.asyncio
async def test_a_second_sigterm_is_not_special(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Supervisors repeat it, and mean the same."""
    async with running(tmp_path, caplog) as (one, task):
        one.data_plane.idle.clear()
        for times in (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
            await one.until(lambda n=times: caplog.messages.count(SIGTERM) == n)  # type: ignore[misc]
        await one.until(lambda: one.data_plane.drains != [])
        one.data_plane.idle.set()
        assert await task == EXIT_OK
        assert caplog.messages[-1] == "drained"


@pytest.mark.asyncio
async def test_who_waits_for_a_certificate_ends_when_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: FakeCa, csr: bytes, identity: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeCa, "sign", never)
    one = Running(tmp_path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(one.node.run())
        await one.until(lambda: one.data_plane.synced)
        began = one.clock.now().monotonic
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == EXIT_OK
        assert one.clock.now().monotonic - began < 2
    assert "ready" not in caplog.messages
    one.data_plane.close()


async def ask(address: str, request: str) -> str:
    """The whole answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.asyncio
async def test_operators_reach_every_part_through_the_admin_port(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, caplog) as (one, task):
        ready = next(record for record in caplog.records if record.message == "ready")
        address = ready.__dict__["fields"]["admin"]
        assert one.data_plane.operators == [address]
        dump = await ask(address, "GET /config_dump")
        assert '"config":{' in dump
        assert '"version":{' in dump
        assert '"staticConfig":{"policies":[],"services":[],"workloads":[{' in dump
        assert "current log level is info,debug\n" in await ask(
            address, "POST /logging?level=debug"
        )
        assert logging.getLogger("ztunnel").level == logging.DEBUG
        assert "current log level is info\n" in await ask(address, "POST /logging?reset")
        one.data_plane.idle.clear()
        assert (await ask(address, "POST /quitquitquit")).endswith("\r\n\r\nshutdown now\n")
        await one.until(lambda: one.data_plane.drains == [3.0])
        with pytest.raises(ConnectionRefusedError):
            await ask(address, "GET /")
        one.data_plane.idle.set()
        assert await task == EXIT_OK


@pytest.mark.asyncio
async def test_an_admin_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    one = Running(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        text = one.path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
        one.path.write_text(text)
        file = load_node_file(one.path)
        parts = Parts(
            data_plane=lambda settings: one.data_plane, ca=lambda settings: one.ca, clock=one.clock
        )
        node = Node(file.settings, file.identity, file.mesh, parts, started=0.0)
        with pytest.raises(OSError, match=f"admin: cannot listen: .*: 127.0.0.1:{port}$"):
            await node.run()
    assert one.data_plane.stopped.is_set()
    assert not one.data_plane.synced
    one.data_plane.close()


@pytest.mark.asyncio
async def test_connections_that_outlive_the_deadline_are_named_and_the_end_is_still_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, caplog) as (one, task):
        monkeypatch.setattr(one.data_plane, "drain", lambda deadline: False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == EXIT_OK
        assert caplog.messages[-1] == "connections were cut at the deadline"


@pytest.mark.asyncio
async def test_events_of_the_data_plane_reach_the_manager(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, caplog) as (one, _):
        one.data_plane.say(FakeEvent(kind="credential_wanted", identity=OTHER, detail="now"))
        await one.until(lambda: OTHER in one.data_plane.certificates)
        one.data_plane.say(
            FakeEvent(kind="credential_idle", identity=OTHER),
            FakeEvent(kind="credential_idle", identity=OWN),
            FakeEvent(kind="overflow"),
            FakeEvent(kind="from the future"),
        )
        await one.until(lambda: OTHER not in one.data_plane.certificates)
        await one.until(lambda: "an event that nobody knows" in caplog.messages)
        assert OWN in one.data_plane.certificates


@pytest.mark.asyncio
async def test_a_node_that_lost_a_worker_drains_and_ends_with_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, caplog) as (one, task):
        one.data_plane.say(FakeEvent(kind="worker_failed", detail="worker 1 ended"))
        async with asyncio.timeout(10):
            assert await task == EXIT_FAILED
        assert one.data_plane.drains == [3.0]
        assert one.data_plane.stopped.is_set()
        assert "a worker failed; the node drains and ends, to be started again" in caplog.messages
        assert caplog.messages[-1] == "drained"


@pytest.mark.asyncio
async def test_a_changed_file_is_applied_while_the_node_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, caplog) as (one, _):
        one.path.write_text(FILE + "- {name: shop, namespace: n, workloadIps: [127.0.0.2]}\n")
        await one.until(lambda: len(one.data_plane.resources) == 2)


@pytest.mark.asyncio
async def test_a_node_without_a_certificate_says_so_and_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(self: FakeCa, csr: bytes, identity: object) -> None:
        raise CaUnavailable("out for lunch")

    monkeypatch.setattr(FakeCa, "sign", no)
    async with running(tmp_path, caplog):
        assert "no certificate yet; tunnels wait for it" in caplog.messages


@pytest.mark.asyncio
async def test_who_waits_for_an_authority_ends_when_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = asyncio.Event()

    async def never(self: FakeCa) -> None:
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeCa, "open", never)
    caplog.set_level(logging.INFO, logger="ztunnel")
    one = Running(tmp_path)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(one.node.run())
        await opening.wait()
        os.kill(os.getpid(), signal.SIGTERM)
    assert task.result() == EXIT_OK
    assert one.ca.closed
    assert one.data_plane.stopped.is_set()
    one.data_plane.close()


@pytest.mark.asyncio
async def test_an_authority_that_cannot_work_ends_the_start(tmp_path: Path) -> None:
    one = Running(tmp_path)
    one.ca.trouble_at_start = CaFolderError("the CA's key is damaged")
    with pytest.raises(CaFolderError):
        await one.node.run()
    assert not one.data_plane.synced
    assert one.ca.closed
    one.data_plane.close()


@pytest.mark.asyncio
async def test_a_mesh_that_rust_does_not_take_ends_the_start(tmp_path: Path) -> None:
    one = Running(tmp_path)
    one.data_plane.rejections = [
        FakeRejection(type_url="ztunnel.local/Workload", name="n/web", reason="no")
    ]
    with pytest.raises(MeshFileError):
        await one.node.run()
    assert one.data_plane.stopped.is_set()
    one.data_plane.close()


def test_a_node_with_the_built_in_authority_loads_nothing_of_grpc() -> None:
    program = (
        "import sys, ztunnel.cli.run, ztunnel.app, ztunnel.nodefile, ztunnel.telemetry.log\n"
        "from ztunnel.identity.ca import process\n"
        "print(*(m for m in sys.modules if m.split('.')[0] in ('grpclib', 'h2', 'hpack', 'google')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_a_node_that_nobody_asks_loads_nothing_of_http() -> None:
    program = (
        "import sys, ztunnel.cli.run, ztunnel.cli.proxy, ztunnel.app\n"
        "late = ('h11', 'ztunnel.admin.connection', 'ztunnel.admin.routes')\n"
        "print(*(m for m in late if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
