"""The mesh file: each mistake by its line, column, path and sentence; and what Rust is handed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cost import assert_linear
from ztunnel.errors import MeshFileError
from ztunnel.local.schema import MeshDocument, parse_mesh

PATH = Path("mesh.yaml")


def mistakes(text: str) -> list[str]:
    with pytest.raises(MeshFileError) as caught:
        parse_mesh(text.encode(), PATH)
    return [str(problem) for problem in caught.value.problems]


def parsed(text: str) -> dict[str, Any]:
    """Name → value of each resource."""
    return {r.name: json.loads(r.value) for r in parse_mesh(text.encode(), PATH).resources}


def workload(fields: str) -> str:
    return f"workloads:\n- {{name: a, namespace: n, workloadIps: [10.0.0.1], {fields}}}\n"


def service(fields: str) -> str:
    return f"services:\n- {{name: s, namespace: n, hostname: s.n, vips: [/10.1.0.1], ports: {{80: 80}}, {fields}}}\n"


def match(fields: str) -> str:
    return (
        "policies:\n- {name: p, namespace: n, scope: Global, action: Allow, rules: [[[{"
        + fields
        + "}]]]}\n"
    )


WRONG_VALUES = [
    # of a workload: what is written, and what is said about it
    (workload("workloadIp: [1.2.3.4]"), 'unknown field: "workloadIp"; did you mean "workloadIps"?'),
    (workload("PROTOCOL: HBONE"), 'unknown field: "PROTOCOL"; did you mean "protocol"?'),
    (workload("zzzzzzz: 1"), 'unknown field: "zzzzzzz"'),
    (workload("protocol: HBON"), '.protocol: not one of TCP, HBONE: "HBON"; did you mean "HBONE"?'),
    (workload("protocol: 1"), ".protocol: not a text: 1; put it in quotes"),
    (workload("uid: true"), ".uid: not a text: true; put it in quotes"),
    (workload("uid: 1.10"), ".uid: not a text: 1.10; put it in quotes"),
    (workload("uid: [x]"), ".uid: not a text: a list"),
    (workload('uid: "a\\nb"'), '.uid: has a character that cannot be printed: "a\\u000ab"'),
    (
        workload("uid: !!python/object:os.system x"),
        '.uid: a tag that means nothing here: "!tag:yaml.org',
    ),
    (workload("nativeTunnel: yes"), ".nativeTunnel: not true or false: yes"),
    (workload('nativeTunnel: "true"'), '.nativeTunnel: not true or false: "true"'),
    (
        workload("serviceAccount: a/b"),
        ".serviceAccount: not a name (letters, digits, `.`, `-`, `_`): ",
    ),
    (workload("trustDomain: Cluster.Local"), ".trustDomain: not a trust domain (lower-case"),
    (workload("capacity: -1"), ".capacity: not a whole number (0-4294967295): -1"),
    (workload("capacity: 4294967296"), ".capacity: not a whole number (0-4294967295): 4294967296"),
    (workload(f"capacity: {'9' * 5000}"), ".capacity: not a whole number"),
    (workload('capacity: "1"'), '.capacity: not a whole number: "1"; without the quotes'),
    (workload("capacity: 1_000"), ".capacity: not a whole number (0-4294967295): 1_000"),
    (workload("services: [x]"), ".services: not a mapping: a list"),
    (workload("services: {web: {}}"), '.services["web"]: not namespace/name: "web"'),
    (workload("services: {a/b/c: {}}"), '.services["a/b/c"]: not namespace/name: "a/b/c"'),
    (workload("services: {n/s: {0: 1}}"), '.services["n/s"]["0"]: not a port number (1-65535): 0'),
    (
        workload("services: {n/s: {80: 0o17}}"),
        '.services["n/s"]["80"]: not a port number (0-65535): 0o17',
    ),
    (
        workload("services: {n/s: {80: 0777}}"),
        '.services["n/s"]["80"]: not a port number (0-65535): 0777',
    ),
    (
        workload("services: {n/s: {80: 0x50}}"),
        '.services["n/s"]["80"]: not a port number (0-65535): 0x50',
    ),
    (
        workload("services: {n/s: {80: 1e3}}"),
        '.services["n/s"]["80"]: not a port number (0-65535): 1e3',
    ),
    (
        workload("services: {n/s: {80: 65536}}"),
        '.services["n/s"]["80"]: not a port number (0-65535): 65536',
    ),
    (
        workload("services: {n/s: {80: 22:22}}"),
        '.services["n/s"]["80"]: not a port number (0-65535): 22:22',
    ),
    (
        workload("services: {n/s: {80: }}"),
        '.services["n/s"]["80"]: not a port number (0-65535): nothing',
    ),
    (
        workload("waypoint: {destination: x, hboneMtlsPort: 1}"),
        ".waypoint.destination: not network/address or",
    ),
    (workload("waypoint: {destination: n/h}"), ".waypoint: missing: `hboneMtlsPort`"),
    (
        workload("applicationTunnel: {protocol: NOPE}"),
        ".applicationTunnel.protocol: not one of NONE, PROXY",
    ),
    (workload("locality: {region: r, zone: z}"), ".locality: missing: `subzone`"),
    (workload("authorizationPolicies: [p]"), '.authorizationPolicies[0]: not namespace/name: "p"'),
    (
        workload("status: healthy"),
        '.status: not one of Healthy, Unhealthy: "healthy"; did you mean "Healthy"?',
    ),
    # of a service
    (service("vip: x"), 'unknown field: "vip"; did you mean "vips"?'),
    (
        service("cidrVips: [{network: '', cidr: 10.0.0.0/33}]"),
        '.cidrVips[0].cidr: not a CIDR: "10.0.0.0/33"',
    ),
    (service("endpoints: {u: {port: {80: 80}}}"), '.endpoints["u"]: missing: `workloadUid`'),
    (
        service("loadBalancer: {mode: Strict, healthPolicy: AllowAll}"),
        ".loadBalancer: missing: `routing",
    ),
    (
        service("ipFamilies: ipv4"),
        '.ipFamilies: not one of Dual, IPv4, IPv6: "ipv4"; did you mean "IPv4"?',
    ),
    (service("subjectAltNames: ['']"), '.subjectAltNames[0]: empty or with a blank in it: ""'),
    # of a policy
    (
        match("principals: [x]"),
        ".principals[0]: not one of Exact, Prefix, Suffix, Presence with its value: x",
    ),
    (
        match("principals: [!Exat x]"),
        '.principals[0]: not one of Exact, Prefix, Suffix, Presence: "Exat"; did',
    ),
    (match("principals: [{Exact: 1}]"), ".principals[0].Exact: not a text: 1; put it in quotes"),
    (
        match("principals: [{Exact: a, Prefix: b}]"),
        ".principals[0]: not one of Exact, Prefix, Suffix, Presence",
    ),
    (match("principals: [{Presence: [x]}]"), ".principals[0]: Presence takes no value"),
    (match("principals: !Exact x"), '.principals: not a list: "!Exact x"'),
    (
        match("sourceIps: [10.0.0.1]"),
        '.sourceIps[0]: not a CIDR: "10.0.0.1"; write 10.0.0.1/32 for one address',
    ),
    (match("sourceIps: ['::1/129']"), '.sourceIps[0]: not a CIDR: "::1/129"'),
    (match("sourceIps: [10.0.0.0/08]"), '.sourceIps[0]: not a CIDR: "10.0.0.0/08"'),
    (match("sourceIps: [10.0.0.0/]"), '.sourceIps[0]: not a CIDR: "10.0.0.0/"'),
    (match("sourceIps: [10.0.0.0/²]"), ".sourceIps[0]: not a CIDR: "),
    (match("destinationPorts: [0]"), ".destinationPorts[0]: not a port number (1-65535): 0"),
    (
        match("destinationPorts: ['80']"),
        '.destinationPorts[0]: not a port number: "80"; without the quotes',
    ),
    (match("serviceAccounts: [{namespace: n}]"), ".serviceAccounts[0]: missing: `serviceAccount`"),
]


@pytest.mark.parametrize(
    ("text", "message"), WRONG_VALUES, ids=[message[:60] for _, message in WRONG_VALUES]
)
def test_a_wrong_value_is_the_only_mistake_and_is_named(text: str, message: str) -> None:
    found = mistakes(text)
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("2:")


def test_every_mistake_is_listed_in_the_order_of_the_file() -> None:
    text = """\
workloads:
- name: web
  namespace: default
  workloadIps: [10.0.0.300, "10.0.0.1", nowhere]
  protcol: HBONE
- namespace: default
services:
- {name: s, namespace: n, hostname: s.n, vips: [10.0.0.1], ports: {http: 80}}
polices: []
"""
    assert mistakes(text) == [
        '4:17: workloads[0].workloadIps[0]: not an IP address: "10.0.0.300"',
        '4:41: workloads[0].workloadIps[2]: not an IP address: "nowhere"',
        '5:3: workloads[0]: unknown field: "protcol"; did you mean "protocol"?',
        "6:3: workloads[1]: missing: `workloadIps`",
        '8:49: services[0].vips[0]: not network/address: "10.0.0.1"; write /10.0.0.1 for no network',
        '8:68: services[0].ports["http"]: not a port number (1-65535): http',
        '9:1: unknown field: "polices"; did you mean "policies"?',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", ["1:1: not a mapping with `workloads`, `services`, `policies`"]),
        ("[]", ["1:1: not a mapping with `workloads`, `services`, `policies`"]),
        ("workloads: {}", ["1:12: workloads: not a list: a mapping"]),
        ("workloads: [x]", ["1:13: workloads[0]: not a mapping: x"]),
        (
            "workloads:\n- &a {name: x, namespace: n, workloadIps: []}\n- *a\n",
            ['2:3: workloads[1]: the same key as workloads[0] on line 2: "n/x"'],
        ),
        (
            "workloads:\n- {uid: u, namespace: n, workloadIps: []}\n- {uid: u, namespace: m, workloadIps: []}\n",
            ['3:3: workloads[1]: the same key as workloads[0] on line 2: "u"'],
        ),
        (
            "workloads:\n- {namespace: n, workloadIps: []}\n",
            ["2:3: workloads[0]: missing: `uid`, or a `name` to make one of"],
        ),
        (
            "services:\n" + "- {name: s, namespace: n, hostname: h, vips: [], ports: {}}\n" * 2,
            ['3:3: services[1]: the same key as services[0] on line 2: "n/h"'],
        ),
        (
            "policies:\n"
            + "- {name: p, namespace: n, scope: Global, action: Deny, rules: []}\n" * 2,
            ['3:3: policies[1]: the same key as policies[0] on line 2: "n/p"'],
        ),
        ("workloads: []\nworkloads: []", ['2:1: written twice, first on line 1: "workloads"']),
        (
            "policies:\n- {name: p, namespace: n, scope: Global, action: Deny, rules: [x]}\n",
            ["2:64: policies[0].rules[0]: not a list: x"],
        ),
    ],
)
def test_a_wrong_shape_is_named(text: str, expected: list[str]) -> None:
    assert mistakes(text) == expected


def test_what_is_left_out_has_the_defaults_of_a_standalone_mesh() -> None:
    assert parsed("workloads:\n- {name: web, namespace: no, workloadIps: [10.0.0.1, '::1']}") == {
        "no/web": {
            "name": "web",
            "namespace": "no",  # YAML 1.1 would make it false
            "uid": "no/web",
            "workloadIps": ["10.0.0.1", "::1"],
            "trustDomain": "cluster.local",
            "serviceAccount": "default",
            "services": {},
        }
    }


def test_a_file_with_nothing_but_headings_is_an_empty_mesh() -> None:
    assert parsed("workloads:\nservices: []\npolicies: ~\n") == {}


def test_tags_and_single_key_mappings_say_the_same() -> None:
    tagged = match("principals: [!Exact x, !Prefix 1, !Suffix 'y', !Presence [], !Presence ]")
    mapped = match(
        "principals: [{Exact: x}, {Prefix: '1'}, {Suffix: y}, {Presence: []}, {Presence: }]"
    )
    assert parsed(tagged) == parsed(mapped)
    assert parsed(tagged)["n/p"]["rules"][0][0][0]["principals"] == [
        {"Exact": "x"},
        {"Prefix": "1"},
        {"Suffix": "y"},
        {"Presence": []},
        {"Presence": []},
    ]


def test_ports_may_have_quoted_keys_as_json_has() -> None:
    assert parsed(service("canonical: true").replace("{80: 80}", '{"80": 8080}'))["n/s.n"][
        "ports"
    ] == {"80": 8080}


def test_json_is_a_mesh_file_too() -> None:
    text = json.dumps({"workloads": [{"name": "a", "namespace": "n", "workloadIps": ["::1"]}]})
    assert parsed(text)["n/a"]["workloadIps"] == ["::1"]


def test_references_to_things_that_are_not_there_are_warnings() -> None:
    text = workload("services: {n/s: {80: 80}}, authorizationPolicies: [n/p]")
    assert [str(w) for w in parse_mesh(text.encode(), PATH).warnings] == [
        '2:3: workloads[0].services: no such service in this file: "n/s"',
        '2:3: workloads[0].authorizationPolicies: no such policy in this file: "n/p"',
    ]


def test_a_large_mesh_costs_as_much_as_it_is_large() -> None:
    def read(count: int) -> None:
        text = "workloads:\n" + "".join(
            f"- {{name: w{n}, namespace: d, protocol: HBONE, workloadIps: [10.0.{n // 256}.{n % 256}]}}\n"
            for n in range(count)
        )
        assert len(parse_mesh(text.encode(), PATH).resources) == count

    assert_linear(read, 1_000)


def wrong(count: int) -> str:
    return "workloads:\n" + "".join(f"- {{name{n}: x, protocol: HBON{n}}}\n" for n in range(count))


def test_a_file_of_nothing_but_mistakes_costs_as_much_as_it_is_large() -> None:
    assert_linear(lambda count: mistakes(wrong(count)), 1_500)


def test_of_a_file_of_nothing_but_mistakes_no_more_are_told_than_anyone_reads() -> None:
    found = mistakes(wrong(8_000))
    assert len(found) == 10_001
    assert "more mistakes than anyone reads" in "".join(found)


FIELDS = [
    "workloads",
    "services",
    "policies",
    "name",
    "namespace",
    "workloadIps",
    "rules",
    "ports",
    "vips",
    "uid",
]
SCALARS = st.sampled_from(
    ["x", "~", "no", "80", "10.0.0.1", "/10.0.0.1", "n/s", "!Exact x", "[]", "{}", "'80'"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4).map(
            lambda entries: "{" + ", ".join(f"{k}: {v}" for k, v in entries.items()) + "}"
        )
    ),
    max_leaves=12,
)


@given(VALUES | st.text(max_size=50))
def test_any_text_is_a_mesh_or_a_list_of_mistakes(text: str) -> None:
    assert_mesh_or_mistakes(text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_mesh_or_a_list_of_mistakes(data: bytes) -> None:
    assert_mesh_or_mistakes(data)


def assert_mesh_or_mistakes(data: bytes) -> None:
    lines = ["no mistake"]
    try:
        assert isinstance(parse_mesh(data, PATH), MeshDocument)
    except MeshFileError as error:
        lines = error.lines()
    assert lines
    assert all("\n" not in line for line in lines)
