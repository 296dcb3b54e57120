"""`staticConfig`: what upstream's readers of a mesh file would write down again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ztunnel.local.schema import parse_mesh
from ztunnel.local.static import static_config

VECTORS = Path(__file__).parents[2] / "vectors"


def section(text: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(
        static_config(parse_mesh(text.encode(), Path("m")).resources)
    )
    return whole


def only(name: str, text: str) -> dict[str, Any]:
    (found,) = section(f"{name}:\n- {text}")[name]
    assert isinstance(found, dict)
    return found


def test_a_mesh_of_nothing_is_upstreams() -> None:
    recorded = json.loads((VECTORS / "config_dump" / "upstream.json").read_text())
    assert section("{}") == recorded["staticConfig"]


def test_what_a_workload_leaves_out_is_shown_with_the_value_that_it_has() -> None:
    assert only("workloads", "{name: a, namespace: n, workloadIps: [10.0.0.1]}") == {
        "capacity": 1,
        "clusterId": "",
        "name": "a",
        "namespace": "n",
        "networkMode": "Standard",
        "protocol": "TCP",
        # Ours fills these three in, upstream does not (spec/control.md §16, 9).
        "serviceAccount": "default",
        "trustDomain": "cluster.local",
        "uid": "n/a",
        "services": {},
        "status": "Healthy",
        "workloadIps": ["10.0.0.1"],
    }


@pytest.mark.parametrize(
    "nothing",
    [
        "authorizationPolicies: []",
        "canonicalName: ''",
        "canonicalRevision: ''",
        "hostname: ''",
        "locality: {region: '', zone: '', subzone: ''}",
        "nativeTunnel: false",
        "network: ''",
        "node: ''",
        "workloadName: ''",
        "workloadType: ''",
    ],
)
def test_what_says_nothing_is_not_shown(nothing: str) -> None:
    plain = "name: a, namespace: n, workloadIps: [10.0.0.1]"
    told = only("workloads", f"{{{plain}, {nothing}}}")
    assert told == only("workloads", f"{{{plain}}}")


def test_what_a_workload_says_is_shown() -> None:
    said = {
        "applicationTunnel": {"protocol": "PROXY", "port": 15088},
        "authorizationPolicies": ["n/p"],
        "capacity": 3,
        "clusterId": "c",
        "locality": {"region": "r", "zone": "", "subzone": ""},
        "name": "a",
        "namespace": "n",
        "nativeTunnel": True,
        "networkGateway": {"destination": "net/10.0.0.9", "hboneMtlsPort": 15008},
        "networkMode": "HostNetwork",
        "protocol": "HBONE",
        "serviceAccount": "s",
        "services": {"n/h": {"80": 8080}},
        "status": "Unhealthy",
        "trustDomain": "t",
        "uid": "u",
        "waypoint": {"destination": "n/w", "hboneMtlsPort": 15008},
        "workloadIps": ["10.0.0.1", "fd00::1"],
    }
    assert only("workloads", json.dumps(said)) == said
    said["applicationTunnel"] = {"protocol": "NONE"}
    told = only("workloads", json.dumps(said))
    assert told["applicationTunnel"] == {"protocol": "NONE", "port": None}


def test_what_a_service_leaves_out_is_shown_with_the_value_that_it_has() -> None:
    plain = "name: s, namespace: n, hostname: h, vips: [/10.0.0.2], ports: {80: 8080}"
    shown = {
        "canonical": False,
        "endpoints": {},
        "hostname": "h",
        "name": "s",
        "namespace": "n",
        "ports": {"80": 8080},
        "subjectAltNames": [],
        "vips": ["/10.0.0.2"],
        "visibility": "Public",
    }
    assert only("services", f"{{{plain}}}") == shown
    assert only("services", f"{{{plain}, cidrVips: [], weightedWaypoints: []}}") == shown
    with_endpoint = only(
        "services", f"{{{plain}, endpoints: {{u: {{workloadUid: u, port: {{}}}}}}}}"
    )
    assert with_endpoint["endpoints"] == {
        "u": {"port": {}, "status": "Healthy", "workloadUid": "u"}
    }


def test_a_policy_is_shown_as_the_dump_shows_policies() -> None:
    recorded = json.loads((VECTORS / "config_dump" / "upstream.json").read_text())["policies"]
    assert len(recorded) > 3
    # As a person may write them: with every list of every match.
    written = json.loads(json.dumps(recorded))
    for policy in written:
        for rule in policy["rules"]:
            for clause in rule:
                for match in clause:
                    match.setdefault("serviceAccounts", [])
                    match.setdefault("notSourceIps", [])
    assert section(json.dumps({"policies": written}))["policies"] == recorded
