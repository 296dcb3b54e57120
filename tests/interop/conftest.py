"""Fixtures of the tests beside upstream's ztunnel; the other real peers bring theirs in their own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.upstream import OURS, Side, Town, upstream
from tests.netns.namespaces import Network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def sides(config: pytest.Config, direction: str) -> tuple[Side, Side]:
    """Who is at the two ends."""
    known = {"ours": OURS, "upstream": upstream(config.getoption("--upstream"))}
    near, far = direction.split("-to-")
    return known[near], known[far]


def make_town(config: pytest.Config, direction: str, network: Network, folder: Path) -> Town:
    """A town whose proxies do not run yet."""
    near, far = sides(config, direction)
    return Town(network, folder, near=near, far=far)


@pytest.fixture
def town(request: pytest.FixtureRequest, direction: str, tmp_path: Path) -> Iterator[Town]:
    """A town of the test's own: it starts the proxies itself."""
    with Network() as network, make_town(request.config, direction, network, tmp_path) as town:
        yield town


@pytest.fixture(scope="module")
def calm(
    request: pytest.FixtureRequest, direction: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    """A town with running proxies, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("calm")
    with (
        Network() as network,
        make_town(request.config, direction, network, folder) as town,
        town.running(),
    ):
        yield town
