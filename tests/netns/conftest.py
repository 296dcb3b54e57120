"""Fixtures of the namespace tests, and what these tests need of the machine.

Asked for by name (`make test-root`, or ZTUNNEL_REQUIRE_ROOT=1) they fail where something is missing; collected
among others they skip and say why.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.netns.capture import redirect
from tests.netns.namespaces import Network
from tests.netns.pods import Pair, Pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOOLS = ("curl", "ip", "iptables", "iptables-restore", "nc", "ss", "tcpdump")


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Root, the programs of `TOOLS`, and a kernel that lets us."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0:
        missing.insert(0, "root")
    if not missing:
        missing = _refusals()
    if not missing:
        return
    why = f"makes network namespaces and iptables rules; missing: {', '.join(missing)}"
    if os.environ.get("ZTUNNEL_REQUIRE_ROOT") == "1":
        pytest.fail(why)
    pytest.skip(why)


def _refusals() -> list[str]:
    """What root may not do here, as in a container without CAP_NET_ADMIN."""
    try:
        with Network() as network:
            redirect(network.wire)
    except RuntimeError as error:
        return [str(error)]
    return []


_figures: list[str] = []


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured: the last lines of the run show it, also when all is well."""
    return lambda text: _figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures."""
    if _figures:
        terminalreporter.section("figures")
        for line in _figures:
            terminalreporter.line(line)


@pytest.fixture
def network(machine: None) -> Iterator[Network]:
    """A wire of the test's own."""
    with Network() as network:
        yield network


@pytest.fixture
def pods(network: Network, tmp_path: Path) -> Iterator[Pods]:
    """No pods yet."""
    with Pods(network, tmp_path) as pods:
        yield pods


@pytest.fixture(scope="module")
def pair(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One pair for the tests of a file that leave it as it was."""
    with Network() as network:
        pair = Pair(network, tmp_path_factory.mktemp("pair"))
        with pair.pods, pair.pods.running():
            yield pair
