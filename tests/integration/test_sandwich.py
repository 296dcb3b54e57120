"""Requests for somebody whose waypoint is the node's own workload, and for those whose waypoint it is not.

A real node for `web`, which plays the waypoint, and scripted peers (tests/support/lab.py). spec/dataplane.md §3.4;
upstream's row: sandwich_waypoint_plain. A waypoint that takes PROXY headers: test_application_tunnel.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.hbone_peer import Wire, connect
from tests.support.lab import PORT, Lab, round_trip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.nodes import Fields

pytestmark = pytest.mark.asyncio

WORKLOADS: dict[str, Fields] = {
    "workload, by address": {"waypoint": "/{web}"},
    "workload, by service": {"waypoint": "default/{host}"},
    "workload, by workload hostname": {"waypoint": "default/way.example"},
    "workload without a waypoint": {},
    "workload of another waypoint": {"waypoint": "/{peer}"},
    "workload of a waypoint that is nobody": {"waypoint": "/127.5.255.1"},
    "workload of a service without us": {"waypoint": "default/{other}"},
}
SERVICES: dict[str, Fields] = {
    "service, by address": {"waypoint": "/{web}"},
    "service, by service": {"waypoint": "default/{host}"},
    "service, one of several": {"weightedWaypoints": [("/{peer}", 1), ("/{web}", 1)]},
    "service, one of several that gets nothing": {
        "weightedWaypoints": [("/{peer}", 1), ("default/{host}", 0)]
    },
    "service without a waypoint": {},
    "service of another waypoint": {"waypoint": "/{peer}"},
    "service of several others": {"weightedWaypoints": [("/{peer}", 1), ("default/{other}", 1)]},
}
# The rest of them are not ours.
OURS = [name for name in {**WORKLOADS, **SERVICES} if ", " in name]
NOT_OURS = [name for name in {**WORKLOADS, **SERVICES} if ", " not in name]


class Sandwich:
    """The node, and the addresses of all who have a waypoint or none."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        mesh = lab.mesh
        other = mesh.service("other", {80: PORT}, "peer")
        lab.mesh.edit("web")["hostname"] = "way.example"
        self._names = {
            "web": lab.address,
            "peer": lab.peer,
            "host": lab.hostname,
            "other": other,
        }
        self.addresses: dict[str, str] = {}
        for number, (name, waypoint) in enumerate(WORKLOADS.items()):
            self.addresses[name] = mesh.workload(f"behind-{number}", **self._filled(waypoint))
        for number, (name, waypoint) in enumerate(SERVICES.items()):
            hostname = mesh.service(f"front-{number}", {PORT: PORT}, "peer")
            mesh.edit_service(hostname).update(self._filled(waypoint))
            self.addresses[name] = mesh.vip(hostname)

    def _filled(self, waypoint: Fields) -> Fields:
        return {key: self._gateways(value) for key, value in waypoint.items()}

    def _gateways(self, value: Any) -> Any:
        if isinstance(value, str):
            return {"destination": value.format(**self._names), "hboneMtlsPort": 15008}
        return [
            {"destination": self._gateways(destination), "weight": weight}
            for destination, weight in value
        ]


@pytest.fixture(scope="module")
def sandwich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandwich]:
    lab = Lab(tmp_path_factory.mktemp("sandwich"), network="127.5")
    sandwich = Sandwich(lab)
    with lab:
        yield sandwich


@pytest.mark.parametrize("whose", OURS)
async def test_a_request_for_somebody_whose_waypoint_we_are_reaches_the_waypoint(
    sandwich: Sandwich, whose: str
) -> None:
    lab, lines = sandwich.lab, len(sandwich.lab.node.access)
    authority = f"{sandwich.addresses[whose]}:{PORT}"
    async with lab.application(), await Wire.meet(lab.inbound, lab.as_client()) as wire:
        await round_trip(wire, await wire.connect(authority))
    line = await lab.logged(lines, message="connection complete", direction="inbound")
    assert line["dst.hbone_addr"] == authority
    assert line["dst.workload"] == "web"


@pytest.mark.parametrize("whose", NOT_OURS)
async def test_a_request_for_anybody_else_is_refused(sandwich: Sandwich, whose: str) -> None:
    lab, lines = sandwich.lab, len(sandwich.lab.node.access)
    address = sandwich.addresses[whose]
    async with lab.application() as guests, await Wire.meet(lab.inbound, lab.as_client()) as wire:
        assert await wire.request(*connect(f"{address}:{PORT}")) == 400
        assert guests == []
    line = await lab.logged(lines, message="connection failed", direction="inbound")
    assert line["error"] == f"ip mismatch: {lab.address} != {address}"
