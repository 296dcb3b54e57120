"""A fake istiod where no event loop runs: in a thread, in a process that can be killed, and as a pytest fixture."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from grpclib import Status
from grpclib.exceptions import StreamTerminatedError

from tests.support.ads_client import AdsClient, endpoint, streaming_to
from ztunnel.endpoint import Endpoint, RootText
from ztunnel.testing import BackgroundIstiod, ChildIstiod
from ztunnel.testing.istiod import ADDRESS, AUTHORIZATION, faults, mesh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WEB = mesh.workload("web", ip="10.0.0.7", node="node-a")
DEADLINE = 30.0


@asynccontextmanager
async def in_sync(to: Endpoint, token: str, *held: tuple[str, str]) -> AsyncIterator[AdsClient]:
    """A client that has taken the first response of either type."""
    async with streaming_to(to, token) as client:
        await client.ask(ADDRESS, initial_versions=held)
        await client.take(await client.hear())
        await client.ask(AUTHORIZATION)
        await client.take(await client.hear())
        yield client


def test_from_a_thread_it_can_be_told_and_waited_for(tmp_path: Path) -> None:
    async def conversation(to: Endpoint, token: str) -> None:
        async with in_sync(to, token) as client:
            await asyncio.to_thread(istiod.synced)
            await asyncio.to_thread(istiod.put, WEB)
            response = await client.hear()
            await client.refuse(response, "web: why")
            assert await asyncio.to_thread(istiod.nacked, ADDRESS) == "web: why"
            await asyncio.to_thread(istiod.answered)
            istiod.reset_streams()
            with pytest.raises(StreamTerminatedError):
                await client.raw()
        istiod.next_stream(faults.Close(Status.ABORTED, "no"), at=0)
        async with streaming_to(to, token) as client:
            with pytest.raises(Exception, match="no"):
                await client.raw()
        await asyncio.to_thread(istiod.attempted, 2)

    with BackgroundIstiod(tmp_path) as istiod:
        asyncio.run(conversation(istiod.call(endpoint), istiod.server.token))


def test_what_a_proxy_is_told_can_be_swapped_under_it(tmp_path: Path) -> None:
    with BackgroundIstiod(tmp_path) as istiod:
        told = istiod.environment("client", namespace="default", account="client", node="node-a")
        assert told["XDS_ADDRESS"] == told["CA_ADDRESS"] == f"https://{istiod.address}"
        assert told["NODE_NAME"] == "node-a"
        mounts = istiod.mounts["client"]
        assert str(mounts.token.path) == told["AUTH_TOKEN"]
        assert mounts.roots.path.read_text() == istiod.roots
        for text in ("second", "third"):
            mounts.token.write(text)
            assert mounts.token.path.read_text() == text
        # As Kubernetes has it: a symlink through `..data`, and what was there before is gone.
        assert mounts.token.path.is_symlink()
        kept = sorted(path.name for path in mounts.token.path.parent.iterdir())
        assert kept == ["..2026_3", "..data", "istio-token"]


def test_killed_and_started_again_it_is_the_same_control_plane(tmp_path: Path) -> None:
    async def sync(*held: tuple[str, str]) -> None:
        to = Endpoint(
            host=istiod.host,
            port=istiod.port,
            roots=RootText(istiod.authority.pem),
            cluster_id="Kubernetes",
        )
        async with in_sync(to, token, *held):
            pass

    with ChildIstiod(tmp_path) as istiod:
        istiod.put(WEB)
        told = istiod.environment("ztunnel")
        token = (tmp_path / "ztunnel" / "tokens" / "istio-token").read_text()
        assert told["AUTH_TOKEN"].endswith("istio-token")
        asyncio.run(sync())
        first = istiod.wait_for(lambda line: line.get("told") == ADDRESS, "it tells")
        assert first["resources"] == [WEB.name]
        port = istiod.port
        istiod.kill()
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(sync())
        seen = len(istiod.seen)
        istiod.start()
        assert istiod.port == port
        asyncio.run(sync((WEB.name, WEB.version)))
        again = istiod.wait_for(
            lambda line: line.get("told") == ADDRESS, "it tells again", after=seen
        )
        assert again["resources"] == []
        istiod.remove(WEB)


def test_a_stopped_process_answers_when_it_goes_on(tmp_path: Path) -> None:
    async def handshake(within: float) -> None:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(istiod.host, istiod.port)
            try:
                writer.write(b"not TLS at all\r\n\r\n")
                await reader.read(1)
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    with ChildIstiod(tmp_path) as istiod:
        istiod.pause()
        with pytest.raises(TimeoutError):
            asyncio.run(handshake(0.2))
        istiod.resume()
        asyncio.run(handshake(DEADLINE))


FIXTURES = """
import time

from ztunnel.testing.istiod import mesh


def test_with_a_control_plane(istiod):
    istiod.put(mesh.workload("web", ip="10.0.0.7"))
    assert istiod.environment()["XDS_ADDRESS"] == f"https://{istiod.address}"
    assert "BEGIN CERTIFICATE" in istiod.roots


def test_with_a_clock(manual_clock):
    before = manual_clock.now().monotonic
    manual_clock.pass_time(60)
    assert manual_clock.now().monotonic == before + 60
"""

UNUSED = """
import sys


def test_nothing_is_imported_that_is_not_used():
    assert [name for name in sys.modules if name.split(".")[0] in ("ztunnel", "grpclib", "h2")] == [
        "ztunnel", "ztunnel.testing", "ztunnel.testing.plugin",
    ]
"""


@pytest.mark.parametrize("text", [FIXTURES, UNUSED], ids=["fixtures", "unused"])
def test_the_plugin_gives_its_fixtures_and_costs_nothing_unused(tmp_path: Path, text: str) -> None:
    (tmp_path / "test_it.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "ztunnel.testing.plugin", "-q", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
