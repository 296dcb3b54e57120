"""A workload at a service's address: led as upstream leads it, and said (spec/dataplane.md §20.2 item 18)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.support.apps import Application, Heard, direct
from tests.support.nodes import Mesh, Node

if TYPE_CHECKING:
    from pathlib import Path

PORT = 8080


def test_a_waypoint_that_is_gone_around_is_warned_of_and_a_single_meaning_is_not(
    tmp_path: Path,
) -> None:
    with Mesh(tmp_path, network="127.42") as mesh:
        mesh.workload("client")
        server, alone = mesh.workload("server"), mesh.workload("alone", protocol="TCP")
        waypoint = {"destination": f"/{mesh.address()}", "hboneMtlsPort": 15008}
        mesh.service("web", {PORT: PORT}, "server", vips=[f"/{server}"], waypoint=waypoint)
        targets = [f"{alone}:{PORT}", f"{server}:{PORT}"]
        with Node(mesh, "server"), Node(mesh, "client", forwards=targets) as client:
            for address, target in zip((alone, server), targets, strict=True):
                with Application.listen(address, PORT) as application:
                    near, far = application.pair(partial(direct, client.forwards[target]))
                    near.says(b"hello").finishes()
                    assert far.hears() == Heard(b"hello", "FIN")
                    far.closes()
                    assert near.hears() == Heard(b"", "FIN")
            client.access.wait_for("connection complete", dst_hbone_addr=targets[1])
        (line,) = client.access.all(level="warn")
    assert line["scope"] == "ztunnel::proxy::outbound"
    assert line["message"].endswith(
        "has the address of service default/web.default.svc.cluster.local: that service's waypoint is not asked"
    )
