"""A control side that learns the mesh from a server, with a data plane made of memory: for tests of `ztunnel.xds`.

async with learning(istiod, tmp_path) as one:
    await istiod.synced()
    assert one.names() == [...]
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ztunnel.app import ads_stream
from ztunnel.clock import SystemClock
from ztunnel.endpoint import Endpoint, RootFile, TokenFile
from ztunnel.settings import XdsNode, XdsSettings
from ztunnel.testing import FakeDataPlane
from ztunnel.testing.istiod.mounts import Mounts
from ztunnel.xds.client import AdsClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from ztunnel.testing.istiod import FakeIstiod

DEADLINE = 30.0
NODE = XdsNode(pod="ztunnel", namespace="istio-system", instance_ip="10.66.0.1", name="node-a")


class Learning:
    """One client that runs."""

    def __init__(self, istiod: FakeIstiod, folder: Path, *, on_demand: bool = False) -> None:
        self.mounts = Mounts(folder, roots=istiod.certificates.bundle, token=istiod.token)
        self.endpoint = Endpoint(
            host=istiod.port.host,
            port=istiod.port.port,
            roots=RootFile(self.mounts.roots.path),
            token=TokenFile(self.mounts.token.path),
            cluster_id=istiod.cluster_id,
        )
        self.settings = XdsSettings(endpoint=self.endpoint, node=NODE, on_demand=on_demand)
        self.data_plane = FakeDataPlane()
        self.opened = asyncio.Event()
        self.client: AdsClient

    def begin(self) -> None:
        """Makes the client, of the endpoint as it is now."""
        settings = dataclasses.replace(self.settings, endpoint=self.endpoint)
        self.client = AdsClient(
            settings,
            data_plane=self.data_plane,
            clock=SystemClock(),
            connect=lambda: ads_stream(settings.endpoint),
            opened=self.opened.set,
        )

    def names(self, kind: str) -> list[str]:
        """What the data plane has of a type."""
        return sorted(name for of_kind, name in self.data_plane.resources if of_kind == kind)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for something that only the data plane knows, which says nothing by itself."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():  # noqa: ASYNC110 - a fake's memory sets no event
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"not within {DEADLINE:g} s: {what}") from None


@asynccontextmanager
async def learning(
    istiod: FakeIstiod,
    folder: Path,
    *,
    on_demand: bool = False,
    change: Callable[[Endpoint], Endpoint] = lambda endpoint: endpoint,
) -> AsyncIterator[Learning]:
    """One that learns from `istiod` until the end of the block; `change` makes another endpoint of the usual one."""
    one = Learning(istiod, folder, on_demand=on_demand)
    one.endpoint = change(one.endpoint)
    one.begin()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(one.client.run())
        try:
            yield one
        finally:
            running.cancel()
    one.data_plane.close()
