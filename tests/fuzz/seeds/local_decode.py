"""Objects of the local file, one per line (the JSON part of BI-X)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import Seeds

Object = dict[str, Any]


def local_decode() -> Seeds:
    """A whole mesh, then each object with something odd about it."""
    workload: Object = {
        "uid": "Kubernetes//Pod/default/web-1",
        "name": "web-1",
        "namespace": "default",
        "serviceAccount": "web",
        "workloadIps": ["10.0.0.7", "fd00::7"],
        "protocol": "HBONE",
        "services": {"default/web.default.svc.cluster.local": {"80": 8080}},
    }
    service: Object = {
        "name": "web",
        "namespace": "default",
        "hostname": "web.default.svc.cluster.local",
        "vips": ["/10.1.0.1", "net/fd00::1"],
        "ports": {"80": 8080, "443": 0},
    }
    policy: Object = {
        "name": "allow-client",
        "namespace": "default",
        "scope": "WorkloadSelector",
        "action": "Allow",
        "rules": [
            [
                [
                    {
                        "principals": [{"Exact": "cluster.local/ns/default/sa/client"}],
                        "destinationPorts": [8080],
                    }
                ]
            ]
        ],
        "dryRun": False,
    }
    key = "default/web.default.svc.cluster.local"
    yield "mesh", lines(W=workload, S=service, P=policy)
    yield "workload_before_service", lines(W=workload)
    gateway = {"destination": "net/10.0.0.9", "hboneMtlsPort": 15008}
    changes: dict[str, Object] = {
        "address_invalid": {"workloadIps": ["10.0.0", "300.0.0.1"]},
        "address_mapped": {"workloadIps": ["::ffff:10.0.0.7"]},
        "address_none": {"workloadIps": []},
        "address_twice": {"workloadIps": ["10.0.0.7", "10.0.0.7"]},
        "capacity_0": {"capacity": 0},
        "capacity_negative": {"capacity": -1},
        "everything": {
            "trustDomain": "td",
            "network": "net",
            "workloadName": "web",
            "workloadType": "deployment",
            "canonicalName": "web",
            "canonicalRevision": "v1",
            "hostname": "h",
            "node": "n",
            "clusterId": "c",
            "networkMode": "HostNetwork",
            "waypoint": gateway,
            "networkGateway": {"destination": key, "hboneMtlsPort": 1},
            "nativeTunnel": True,
            "applicationTunnel": {"protocol": "PROXY", "port": 9},
            "authorizationPolicies": ["default/allow-client"],
            "status": "Unhealthy",
            "locality": {"region": "r", "zone": "z", "subzone": "s"},
        },
        "field_unknown": {"colour": "red"},
        "nested": {"locality": {"region": {"region": {"region": []}}}},
        "port_too_large": {"services": {key: {"80": 70000}}},
        "port_key_odd": {"services": {key: {"+80": 1, "080": 2, "": 3}}},
        "protocol_unknown": {"protocol": "QUIC"},
        "service_name_odd": {"services": {"web": {}, "/": {}, "a/b/c": {}}},
        "trust_domain_odd": {"trustDomain": "TD/x"},
        "tunnel_port_0": {"applicationTunnel": {"protocol": "NONE", "port": 0}},
        "uid_empty": {"uid": ""},
        "wrong_types": {"name": 1, "namespace": None, "services": [], "nativeTunnel": "yes"},
    }
    for name, change in changes.items():
        yield f"workload_{name}", lines(W=workload | change)
    changes = {
        "block": {
            "cidrVips": [
                {"network": "", "cidr": "10.2.0.0/16"},
                {"network": "n", "cidr": "0.0.0.0/0"},
            ]
        },
        "block_odd": {"cidrVips": [{"network": "", "cidr": "10.2.0.1/33"}]},
        "everything": {
            "endpoints": {"u": {"workloadUid": "u", "port": {"80": 1}, "status": "Healthy"}},
            "subjectAltNames": ["spiffe://td/ns/a/sa/b", "not one"],
            "waypoint": gateway,
            "weightedWaypoints": [
                {"destination": gateway, "weight": 0},
                {"destination": gateway, "weight": 7},
            ],
            "loadBalancer": {
                "routingPreferences": ["Region", "Zone", "Network"],
                "mode": "Failover",
                "healthPolicy": "AllowAll",
            },
            "ipFamilies": "Dual",
            "canonical": True,
            "visibility": "Namespace",
        },
        "endpoint_also_declared": {
            "endpoints": {workload["uid"]: {"workloadUid": workload["uid"], "port": {"1": 2}}}
        },
        "port_0": {"ports": {"0": 0, "65535": 65535}},
        "vip_none": {"vips": []},
        "vip_odd": {"vips": ["10.1.0.1", "a/b/10.1.0.1", "/10.1.0.1%eth0"]},
        "waypoint_is_itself": {"waypoint": {"destination": key, "hboneMtlsPort": 0}},
    }
    for name, change in changes.items():
        yield f"service_{name}", lines(W=workload, S=service | change)
    match = {
        "sourceIps": ["10.0.0.0/8", "::/0"],
        "notNamespaces": [{"Prefix": "a"}, {"Suffix": ""}, {"Presence": []}],
    }
    changes = {
        "action_unknown": {"action": "Audit"},
        "block_odd": {"rules": [[[{"sourceIps": ["10.0.0.0/33"]}]]]},
        "clause_empty": {"rules": [[]]},
        "deny": {"action": "Deny", "scope": "Global", "rules": [[[match]]], "dryRun": True},
        "match_empty": {"rules": [[[{}]]]},
        "match_unknown": {"rules": [[[{"colour": []}]]]},
        "name_with_slash": {"name": "a/b"},
        "rules_empty": {"rules": []},
        "rules_many": {"rules": [[[{"destinationPorts": [n]}]] for n in range(60)]},
        "scope_unknown": {"scope": "Planet"},
        "string_two_kinds": {"rules": [[[{"namespaces": [{"Exact": "a", "Prefix": "b"}]}]]]},
    }
    for name, change in changes.items():
        yield f"policy_{name}", lines(P=policy | change)
    yield "json_cut", lines(W=workload)[:60]
    yield "json_deep", b"W" + b"[" * 200
    yield "json_key_twice", b'W{"uid":"a","uid":"b","namespace":"n","workloadIps":[]}'
    yield "json_not_utf8", b'W{"uid":"\xff"}'
    yield (
        "json_numbers",
        b'W{"uid":"a","namespace":"n","workloadIps":[],"capacity":1e3,"x":-0,"y":1e999}',
    )
    yield "json_surrogate", b'W{"uid":"\\ud800","namespace":"n","workloadIps":[]}'
    yield "twice_in_a_batch", lines(W=workload) + b"\n" + lines(W=workload | {"capacity": 9})


def lines(**objects: object) -> bytes:
    """A batch."""
    return b"\n".join(kind.encode() + json.dumps(value).encode() for kind, value in objects.items())
