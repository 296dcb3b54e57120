"""The `node:` section: what it becomes, and each mistake by its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ztunnel.document.checks import Report
from ztunnel.document.compose import compose
from ztunnel.settings import CaSettings, NodeSettings, read_node

LEAST = "{workload: default/web, ca: {directory: ca}}"


def read(text: str) -> tuple[NodeSettings | None, list[str]]:
    report = Report()
    settings = read_node(compose(text.encode()).root, report, base=Path("/etc/mesh"))
    return settings, [str(problem) for problem in report.sorted()]


def good(text: str) -> NodeSettings:
    settings, mistakes = read(text)
    assert mistakes == []
    assert settings is not None
    return settings


def test_the_least_that_a_node_must_be_told_has_defaults_for_the_rest() -> None:
    settings = good(LEAST)
    assert isinstance(settings.ca, CaSettings)
    assert settings.ca.directory == Path("/etc/mesh/ca")
    assert settings.ca.leaf_lifetime == 86400
    assert settings.drain == 5
    assert json.loads(settings.to_native("sa")) == {
        "workload": {"name": "web", "namespace": "default", "serviceAccount": "sa"},
        "network": "",
        "clusterId": "Kubernetes",
        "hbonePort": 15008,
        "listeners": {
            "outbound": None,
            "inbound": None,
            "inboundPlaintext": None,
            "socks5": None,
            "forwards": [],
            "metrics": None,
            "readiness": None,
        },
        "packetMark": None,
        "originalSource": None,
        "splice": True,
        "firstFlight": True,
        "responseBaggage": True,
        "localhostAppTunnel": True,
        "tag": None,
        "authzInfoLogging": False,
        "operatorTunnels": False,
        "ipv6": True,
        "accessLog": {"format": "plain", "path": None, "template": None},
        "logLevel": "info",
    }


def test_everything_that_is_written_reaches_the_data_plane() -> None:
    settings = good("""
workload: n/w
network: net
clusterId: c
hbonePort: 25008
workers: 3
mesh: /abs/mesh.yaml
drain: 1m30s
logLevel: debug
packetMark: 1337
originalSource: false
splice: false
firstFlight: false
responseBaggage: false
localhostAppTunnel: false
operatorTunnels: true
ipv6: false
ca: {directory: /ca, leafLifetime: 20s, trustDomain: a.b}
accessLog: {format: json, path: logs/access, template: envoy}
listen: {outbound: "[::1]:15001", inbound: 127.0.0.1:0, inboundPlaintext: 127.0.0.1:15006, socks5: 127.0.0.1:1080, metrics: 127.0.0.1:15020, readiness: 127.0.0.1:15021, admin: 127.0.0.1:15000}
forwards: [{listen: 127.0.0.1:8081, to: web:80}]
pool: {maxStreams: 10, idle: 1m}
deadlines: {handshake: 500ms, pingTimeout: 20s}
http2: {streamWindow: 65535, frameSize: 16384}
tls: {records: rustls, aead: aws-lc, keyUpdateAfter: 4194304}
resolver: {config: resolv.conf, servers: ["127.0.0.1:5353"]}
""")
    assert settings.mesh == Path("/abs/mesh.yaml")
    assert settings.drain == 90
    assert isinstance(settings.ca, CaSettings)
    assert settings.ca.leaf_lifetime == 20
    native = json.loads(settings.to_native("sa"))
    assert native["workers"] == 3
    assert native["network"] == "net"
    assert native["clusterId"] == "c"
    assert native["hbonePort"] == 25008
    assert native["packetMark"] == 1337
    assert native["originalSource"] is False
    assert native["splice"] is False
    assert native["firstFlight"] is False
    assert native["responseBaggage"] is False
    assert native["localhostAppTunnel"] is False
    assert native["operatorTunnels"] is True
    assert native["ipv6"] is False
    assert native["accessLog"] == {
        "format": "json",
        "path": "/etc/mesh/logs/access",
        "template": "envoy",
    }
    assert native["logLevel"] == "debug"
    assert native["listeners"]["outbound"] == "[::1]:15001"
    assert "admin" not in native["listeners"], "the control side's own"
    assert settings.listen.admin == ("127.0.0.1:15000",)
    assert native["listeners"]["inboundPlaintext"] == "127.0.0.1:15006"
    assert native["listeners"]["forwards"] == [{"listen": "127.0.0.1:8081", "target": "web:80"}]
    assert native["pool"] == {"maxStreams": 10, "idle": 60.0}
    assert native["deadlines"] == {"handshake": 0.5, "pingTimeout": 20.0}
    assert native["http2"] == {"streamWindow": 65535, "frameSize": 16384}
    assert native["tls"] == {"records": "rustls", "aead": "aws-lc", "keyUpdateAfter": 4194304}
    assert native["resolver"] == {"config": "/etc/mesh/resolv.conf", "servers": ["127.0.0.1:5353"]}


def with_(fields: str) -> str:
    return LEAST[:-1] + f", {fields}}}"


WRONG = [
    ("x", "node: not a mapping: x"),
    ("{ca: {directory: ca}}", "node: missing: `workload`"),
    ("{workload: n/w}", "node: missing: `ca`"),
    ("{workload: w, ca: {directory: ca}}", 'node.workload: not namespace/name: "w"'),
    ("{workload: n/w, ca: {}}", "node.ca: missing: `directory`"),
    ("{workload: n/w, ca: {directory: ''}}", 'node.ca.directory: not a path: ""'),
    (with_("lisen: {}"), 'node: unknown field: "lisen"; did you mean "listen"?'),
    (with_("listen: {socks: 127.0.0.1:1}"), 'node.listen: unknown field: "socks"; did you mean "socks5"?'),
    (with_("listen: {socks5: 1080}"), "node.listen.socks5: not a text: 1080; put it in quotes"),
    (with_("listen: {socks5: 'localhost:1080'}"), "node.listen.socks5: not an address with a port, such as"),
    (with_("listen: {admin: 0.0.0.0:15000}"), "node.listen.admin: not a loopback address with a port, such as"),
    (with_("listen: {metrics: 127.0.0.1:1, readiness: 127.0.0.1:1}"), "node.listen.readiness: the same address as listen.metrics"),
    (with_("forwards: [{listen: 127.0.0.1:1, to: web}]"), 'node.forwards[0].to: not host:port or ip:port: "web"'),
    (with_("forwards: [{listen: 127.0.0.1:1}]"), "node.forwards[0]: missing: `to`"),
    (with_("drain: 5"), "node.drain: not a duration: 5; with its unit, 5s"),
    (with_("drain: soon"), 'node.drain: not a duration such as "5s" or "1h30m": "soon"'),
    (with_("drain: 2h"), 'node.drain: not between 0 s and 3600 s: "2h"'),
    (with_("deadlines: {dial: 0s}"), 'node.deadlines.dial: not between 0.01 s and 3600 s: "0s"'),
    (with_("hbonePort: 0"), "node.hbonePort: not a port number (1-65535): 0"),
    (with_("workers: 0"), "node.workers: not a number of workers (1-256): 0"),
    (with_("logLevel: warning"), 'node.logLevel: not one of trace, debug, info, warn, error: "warning"; did you mean "warn"?'),
    (with_("accessLog: {format: xml}"), 'node.accessLog.format: not one of plain, json, off: "xml"'),
    (with_("http2: {frameSize: 100}"), "node.http2.frameSize: not a frame size (16384-16777215): 100"),
    (with_("tls: {records: openssl}"), 'node.tls.records: not one of in_place, rustls: "openssl"'),
    (with_("tls: {aead: awslc}"), 'node.tls.aead: not one of auto, aws-lc, ring: "awslc"; did you mean "aws-lc"?'),
    (with_("tls: {keyUpdateAfter: 1000}"), "node.tls.keyUpdateAfter: not a number of bytes (65536-1099511627776): 1000"),
    (with_("resolver: {servers: [localhost]}"), 'node.resolver.servers[0]: not an address with a port, such as'),
    ("{workload: n/w, ca: {directory: ca, leafLifetime: 1s}}", "node.ca.leafLifetime: not between 2 s and"),
    ("{workload: n/w, ca: {directory: ca, trustDomain: A}}", "node.ca.trustDomain: not a trust domain"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_a_wrong_setting_is_the_only_mistake_and_is_named(text: str, message: str) -> None:
    settings, mistakes = read(text)
    assert settings is None
    assert len(mistakes) == 1
    assert message in mistakes[0]
    assert mistakes[0].startswith("1:")
