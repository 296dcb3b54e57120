"""What the two tell of the same connections: access logs and metrics as upstream's with itself, to the last field.

The control's town is built once; each direction's must tell the same, but for times, ports of clients and durations.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop.conftest import make_town
from tests.interop.upstream import (
    BOTH_WAYS,
    CONTROL,
    DENIED,
    ECHO,
    OURS,
    SHUT,
    Town,
    comparable,
    counted,
)
from tests.netns.namespaces import Network
from tests.support.apps import Application, Heard, direct, hears_at_once
from tests.support.nodes import eventually

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.interop.upstream import Proxy
    from tests.support.nodes import Address

# The first test waits for towns on both sides.
pytestmark = [pytest.mark.root, pytest.mark.upstream, pytest.mark.timeout(120), BOTH_WAYS]

Line = list[tuple[str, object]]
WEB = "web.default.svc.cluster.local"


class Journey(NamedTuple):
    """A connection, and how many lines the client's and the server's proxies tell of it."""

    goes: Callable[[Town], None]
    near: int
    far: int
    of_service: bool = False
    """Whether it goes to a port of the server that a service leads to."""


class Told(NamedTuple):
    """Of one town: who the receiver is, the lines of each journey, and all metrics at the end."""

    far_side: str
    near: dict[str, list[Line]]
    far: dict[str, list[Line]]
    near_metrics: dict[str, float]
    far_metrics: dict[str, float]


def talks(application: Application, dial: Callable[[], socket.socket]) -> None:
    """A question, an answer, and the end from the client's side."""
    with application:
        near, far = application.pair(dial)
        near.says(b"question").finishes()
        assert far.hears() == Heard(b"question", "FIN")
        far.says(b"an answer").finishes()
        assert near.hears() == Heard(b"an answer", "FIN")


def by_pod_address(town: Town) -> None:
    """Tunnelled, without a service."""
    talks(town.server.listens(ECHO), lambda: town.client.dials((town.server.address, ECHO)))


def by_service(town: Town) -> None:
    """Tunnelled, and both know for which service."""
    talks(town.server.listens(ECHO), lambda: town.client.dials(town.web))


def to_a_plain_workload(town: Town) -> None:
    """The mesh knows it, but it takes no tunnels."""
    talks(town.outside(ECHO), lambda: town.client.dials((town.stranger.address, ECHO)))


def to_an_unknown_address(town: Town) -> None:
    """Passed through."""
    talks(town.outside(ECHO), lambda: town.client.dials((town.unknown, ECHO)))


def from_a_plain_workload(town: Town) -> None:
    """Comes in without a tunnel."""
    to = (town.server.address, ECHO)
    talks(town.server.listens(ECHO), lambda: town.stranger.call(direct, to))


def fails(address: Callable[[Town], Address]) -> Callable[[Town], None]:
    """A connection that the client is told nothing on."""

    def goes(town: Town) -> None:
        assert town.client.tries(address(town)).data == b""

    return goes


def fails_without_a_tunnel(port: int) -> Callable[[Town], None]:
    """The same from the machine without a proxy."""

    def goes(town: Town) -> None:
        assert town.stranger.call(hears_at_once, (town.server.address, port)).data == b""

    return goes


JOURNEYS = {
    "by pod address": Journey(by_pod_address, 1, 1, of_service=True),
    "by service": Journey(by_service, 1, 1, of_service=True),
    "to a plain workload": Journey(to_a_plain_workload, 1, 0),
    "to an unknown address": Journey(to_an_unknown_address, 1, 0),
    "from a plain workload": Journey(from_a_plain_workload, 0, 1, of_service=True),
    "port without a listener": Journey(fails(lambda t: (t.server.address, SHUT)), 1, 1),
    "port that policy denies": Journey(fails(lambda t: (t.server.address, DENIED)), 1, 1),
    "plain, port without a listener": Journey(fails_without_a_tunnel(SHUT), 0, 1),
    "plain, port that policy denies": Journey(fails_without_a_tunnel(DENIED), 0, 1),
    "plain, to a port of the proxy": Journey(fails_without_a_tunnel(15001), 0, 1),
    "service without endpoints": Journey(fails(lambda t: t.empty), 1, 0),
    "unknown address that refuses": Journey(fails(lambda t: (t.unknown, SHUT)), 1, 0),
    "plain workload that refuses": Journey(fails(lambda t: (t.stranger.address, SHUT)), 1, 0),
    "port of the tunnels": Journey(fails(lambda t: (t.server.address, 15008)), 1, 1),
}


def live(config: pytest.Config, direction: str, folder: Path) -> Told:
    """Let a town make every journey, one after the other."""
    near: dict[str, list[Line]] = {}
    far: dict[str, list[Line]] = {}
    with (
        Network() as network,
        make_town(config, direction, network, folder) as town,
        town.running(),
    ):
        for name, journey in JOURNEYS.items():
            before = len(town.near.told()), len(town.far.told())
            journey.goes(town)
            near[name] = new_lines(town.near, before[0], journey.near)
            far[name] = new_lines(town.far, before[1], journey.far)
        return Told(town.far.side.name, near, far, settled(town.near), settled(town.far))


def new_lines(proxy: Proxy, before: int, count: int) -> list[Line]:
    """The lines of a journey; too few of them are for the comparison to complain about."""
    with suppress(pytest.fail.Exception):
        eventually(lambda: len(proxy.told()) >= before + count, "a line", within=5)
    return [comparable(line) for line in proxy.told()[before:]]


def settled(proxy: Proxy) -> dict[str, float]:
    """Metrics once every connection is counted as closed."""

    def whole() -> dict[str, float] | None:
        found = counted(proxy.metrics())
        sums = [
            sum(
                value
                for name, value in found.items()
                if name.startswith(f"istio_tcp_connections_{what}")
            )
            for what in ("opened", "closed")
        ]
        return found if sums[0] == sums[1] else None

    eventually(whole, "as many connections closed as opened")
    return counted(proxy.metrics())


@pytest.fixture(scope="module")
def control(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Upstream with itself."""
    return live(request.config, CONTROL, tmp_path_factory.mktemp("control"))


@pytest.fixture(scope="module")
def told(
    request: pytest.FixtureRequest, direction: str, tmp_path_factory: pytest.TempPathFactory
) -> Told:
    """One of the two directions."""
    return live(request.config, direction, tmp_path_factory.mktemp("told"))


@pytest.mark.parametrize("journey", JOURNEYS)
def test_both_access_logs_are_the_controls(told: Told, control: Told, journey: str) -> None:
    assert len(control.near[journey]) == JOURNEYS[journey].near
    assert len(control.far[journey]) == JOURNEYS[journey].far
    assert told.near[journey] == control.near[journey]
    wanted = control.far[journey]
    if told.far_side == OURS.name and JOURNEYS[journey].of_service:
        wanted = [with_service(line) for line in wanted]
    assert told.far[journey] == wanted


@pytest.mark.parametrize("end", ["near", "far"])
def test_the_metrics_are_the_controls(told: Told, control: Told, end: str) -> None:
    ours, upstreams = (getattr(one, f"{end}_metrics") for one in (told, control))
    assert upstreams
    if end == "far" and told.far_side == OURS.name:
        assert any(WEB in series for series in ours)
        ours, upstreams = without_services(ours), without_services(upstreams)
    assert ours == upstreams


def with_service(line: Line) -> Line:
    """A receiver's line as ours tells it.

    Upstream does not know which services the workloads of a local file belong to, so its receiver never names one;
    under istiod it does, and ours does under both (spec/dataplane.md §20.2.14).
    """
    names = [name for name, _ in line]
    at = 1 + max(names.index(name) for name in ("dst.addr", "dst.hbone_addr") if name in names)
    return [*line[:at], ("dst.service", WEB), *line[at:]]


def without_services(series: dict[str, float]) -> dict[str, float]:
    """Series that differ in the destination's service alone, added up."""
    added: dict[str, float] = {}
    for name, value in series.items():
        erased = re.sub(r"\('(destination_service\w*)', '[^']*'\)", r"\1", name)
        added[erased] = added.get(erased, 0) + value
    return added
