"""Every example that users are shown is right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ztunnel.cli import main
from ztunnel.nodefile import load_node_file

if TYPE_CHECKING:
    from pathlib import Path

MESH_FILES = {
    "two_hosts.yaml": "good: 2 workloads, 1 service, 0 policies",
    "deny_all.yaml": "good: 2 workloads, 0 services, 2 policies",
    "first_tunnel/mesh.yaml": "good: 2 workloads, 1 service, 0 policies",
    "first_tunnel/node-a.yaml": "good: 2 workloads, 1 service, 0 policies",
    "first_tunnel/node-b.yaml": "good: 2 workloads, 1 service, 0 policies",
}


@pytest.mark.parametrize(("name", "summary"), MESH_FILES.items())
def test_an_example_passes_check(
    examples: Path, capsys: pytest.CaptureFixture[str], name: str, summary: str
) -> None:
    assert main(["check", str(examples / name)]) == 0
    assert capsys.readouterr().out == f"{examples / name}: {summary}\n"


def test_no_example_is_without_a_test(examples: Path) -> None:
    found = {str(path.relative_to(examples)) for path in examples.rglob("*.yaml")}
    assert found == set(MESH_FILES)


def test_the_two_ends_of_the_first_tunnel_share_a_ca_and_meet_on_15008(examples: Path) -> None:
    a = load_node_file(examples / "first_tunnel" / "node-a.yaml")
    b = load_node_file(examples / "first_tunnel" / "node-b.yaml")
    assert a.settings.ca == b.settings.ca
    web = b.mesh.document.workload("default", "web")
    assert web is not None
    assert b.settings.listen.inbound == "127.0.0.2:15008"
    assert web["workloadIps"] == ["127.0.0.2"]
    assert a.settings.hbone_port == 15008
    assert str(a.identity) == "spiffe://cluster.local/ns/default/sa/client"
    native = json.loads(a.settings.to_native(a.identity.service_account))
    assert native["workload"] == {
        "name": "client",
        "namespace": "default",
        "serviceAccount": "client",
    }
    assert native["listeners"]["forwards"] == [
        {"listen": "127.0.0.1:8081", "target": "web.default.svc.cluster.local:80"}
    ]
