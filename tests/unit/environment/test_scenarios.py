"""The acceptance scenarios of spec/control.md §17.1, by their rows; worker threads are in `test_workers.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ztunnel.environment.config import Machine
from ztunnel.environment.dump import config_section
from ztunnel.environment.proxyconfig import MESH_CONFIG
from ztunnel.environment.reading import read_config
from ztunnel.environment.variables import Variables

if TYPE_CHECKING:
    from ztunnel.environment.config import Config

MESH_FILE = b"""
accessLogFile: /dev/stdout
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  image: {imageType: distroless}
  statsPort: 15888
  proxyAdminPort: 15099
  proxyMetadata:
    ISTIO_META_FOO: foo
    ISTIO_META_FOOBAR: foobar
"""


def read(environ: dict[str, str], mesh: bytes | None = None, cores: int = 2) -> tuple[Config, Any]:
    variables = Variables(environ)
    config = read_config(variables, Machine(cores=cores, mesh_config=mesh))
    return config, variables


def fatal(environ: dict[str, str], mesh: bytes | None = None) -> list[str]:
    """Mistakes beyond those that every environment without a CA's roots has."""
    _, variables = read(environ, mesh)
    return [m for m in variables.mistakes if "_ROOT_CA" not in m]


@pytest.mark.parametrize(
    ("grace", "deadline"), [("30", 25), ("11", 6), ("10", 9), ("5", 4), ("1", 1), ("0", 1)]
)
def test_termination_grace_period_seconds(grace: str, deadline: float) -> None:
    config, _ = read({"TERMINATION_GRACE_PERIOD_SECONDS": grace})
    assert config.drain == deadline


def test_connection_termination_deadline_wins_over_the_grace_period() -> None:
    config, _ = read(
        {"CONNECTION_TERMINATION_DEADLINE": "90s", "TERMINATION_GRACE_PERIOD_SECONDS": "30"}
    )
    assert config.drain == 90


def test_the_discovery_address_of_proxy_config_is_the_address_of_the_control_plane() -> None:
    config, _ = read({"PROXY_CONFIG": "discoveryAddress: istiod-r.ns:15012"})
    assert config_section(config)["xdsAddress"] == "https://istiod-r.ns:15012"
    config, _ = read({"PROXY_CONFIG": "discoveryAddress: istiod-r.ns:15012", "XDS_ADDRESS": "x:1"})
    assert config_section(config)["xdsAddress"] == "https://x:1"


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "https://localhost:15012"),
        ({"KUBERNETES_SERVICE_HOST": ""}, "https://istiod.istio-system.svc:15012"),
        ({"XDS_ADDRESS": ""}, None),
    ],
)
def test_without_an_address_the_control_plane_is_where_istio_installs_it(
    environ: dict[str, str], address: str | None
) -> None:
    config, _ = read(environ)
    assert config_section(config)["xdsAddress"] == address


def test_the_mesh_file_proxy_config_and_the_environment_are_laid_over_each_other() -> None:
    over = """
proxyAdminPort: 15999
unknown: {anything: [1, 2]}
proxyMetadata:
  ISTIO_META_BAR: bar
  ISTIO_META_FOOBAR: x
  NO_PREFIX: y
"""
    environ = {"PROXY_CONFIG": over, "ISTIO_META_INCLUDE_THIS": "z"}
    config, _ = read(environ, MESH_FILE)
    assert fatal(environ, MESH_FILE) == []
    assert (config.ports.stats, config.ports.admin) == (15888, 15999)
    assert dict(config.place.metadata) == {
        "FOO": "foo",
        "BAR": "bar",
        "FOOBAR": "x",
        "NO_PREFIX": "y",
        "INCLUDE_THIS": "z",
    }
    assert config.mesh.server.address is not None
    assert config.mesh.server.address.authority == "istiod.istio-system.svc:15012"


def test_of_two_cluster_ids_the_metadata_s_counts() -> None:
    config, _ = read({"ISTIO_META_CLUSTER_ID": "a", "CLUSTER_ID": "b"})
    assert config.place.cluster_id == "a"
    assert dict(config.place.metadata)["CLUSTER_ID"] == "a"
    config, _ = read({"CLUSTER_ID": "b"})
    assert config.place.cluster_id == "b"
    assert "CLUSTER_ID" not in dict(config.place.metadata)


@pytest.mark.parametrize("info", [{}, {"PROXY_WORKLOAD_INFO": "a/b"}])
def test_a_dedicated_proxy_must_know_its_workload(info: dict[str, str]) -> None:
    (mistake,) = fatal({"PROXY_MODE": "dedicated"} | info)
    assert "env var PROXY_WORKLOAD_INFO" in mistake


def test_on_demand_excludes_the_dns_proxy() -> None:
    (mistake,) = fatal({"XDS_ON_DEMAND": "true"})
    assert "env var XDS_ON_DEMAND=true" in mistake
    assert fatal({"XDS_ON_DEMAND": "true", "ISTIO_META_DNS_CAPTURE": "false"}) == []
    assert fatal({"XDS_ON_DEMAND": "true", "PROXY_CONFIG": "proxyMetadata: {DNS_CAPTURE: x}"}) == []


def test_neither_proxy_nor_dns_proxy_is_nothing() -> None:
    (mistake,) = fatal({"ENABLE_PROXY": "false", "ISTIO_META_DNS_CAPTURE": "false"})
    assert "env var ENABLE_PROXY=false" in mistake


def test_the_address_of_the_dns_proxy_must_be_one() -> None:
    (mistake,) = fatal({"ISTIO_META_DNS_PROXY_ADDR": "not-an-address"})
    assert "env var ISTIO_META_DNS_PROXY_ADDR=not-an-address" in mistake
    (mistake,) = fatal({"PROXY_CONFIG": "proxyMetadata: {DNS_PROXY_ADDR: 10.0.0.1}"})
    assert "DNS_PROXY_ADDR=10.0.0.1" in mistake


@pytest.mark.parametrize("address", ["127.0.0.1:15053", "[::1]:53", "localhost:0"])
def test_an_address_of_the_dns_proxy_is_taken(address: str) -> None:
    assert fatal({"ISTIO_META_DNS_PROXY_ADDR": address}) == []


def test_header_variables_become_metadata() -> None:
    config, _ = read({"XDS_HEADER_HEADER_FOO": "foo", "CA_HEADER_BAR": "bar"})
    assert config.mesh.server.headers == (("header_foo", "foo"),)
    assert config.certificates.server.headers == (("bar", "bar"),)


def test_typed_metadata_is_kept_and_what_is_no_json_is_complained_of() -> None:
    config, variables = read(
        {
            "ISTIO_METAJSON_LABELS": '{"app": ["x", 1, null]}',
            "ISTIO_METAJSON_BAD": "{",
            "ISTIO_METAJSON_DEEP": "[" * 100_000,
        }
    )
    assert config.place.json_metadata == (("LABELS", {"app": ["x", 1, None]}),)
    assert variables.complaints == [
        "not JSON, and left out: ISTIO_METAJSON_BAD",
        "not JSON, and left out: ISTIO_METAJSON_DEEP",
    ]
    assert config.place.metadata == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not YAML"),
        ("[]", "1:1: not a mapping: a list"),
        ("statsPort: x", "1:12: statsPort: not a port number (0-65535): x"),
        ("proxyAdminPort: 65536", "1:17: proxyAdminPort: not a port number (0-65535): 65536"),
        ("concurrency: -1", "1:14: concurrency: not a number of workers (0-65535): -1"),
        ("discoveryAddress: http://x", "1:19: discoveryAddress: TLS is required"),
        ("discoveryAddress: 'https://'", "1:19: discoveryAddress: must be an address such as"),
        ("discoveryAddress: [x]", "1:19: discoveryAddress: not a text: a list"),
        ("proxyMetadata: [x]", "1:16: proxyMetadata: not a mapping: a list"),
        ("proxyMetadata: {A: 1}", "1:20: proxyMetadata.A: not a text: 1; put it in quotes"),
        ("statsPort: 1\nstatsPort: 2", "2:1: written twice"),
    ],
)
def test_a_proxy_config_with_a_mistake_says_where_it_is(text: str, message: str) -> None:
    (mistake,) = fatal({"PROXY_CONFIG": text})
    assert mistake.startswith("invalid env var PROXY_CONFIG=")
    assert message in mistake
    nested = b"defaultConfig: " + text.encode() if text.startswith(("[", "{")) else text.encode()
    indented = b"defaultConfig:\n  " + nested.replace(b"\n", b"\n  ")
    (mistake,) = fatal({}, nested if text.startswith(("[", "{")) else indented)
    assert mistake.startswith(f"invalid mesh config {MESH_CONFIG} (")


@pytest.mark.parametrize("text", ["", " \n", "null", "# nothing", "proxyMetadata:"])
def test_a_proxy_config_may_say_nothing(text: str) -> None:
    environ = {"PROXY_CONFIG": text}
    if text == "# nothing":
        text = "{}"
    assert fatal({**environ, "PROXY_CONFIG": text}, text.encode()) == []


def test_a_mesh_config_without_a_proxy_config_is_left_alone() -> None:
    assert fatal({}, b"accessLogFile: /dev/stdout\n") == []
    (mistake,) = fatal({}, b"- x\n")
    assert mistake == f"invalid mesh config {MESH_CONFIG} (1:1: not a mapping: a list)"


def test_concurrency_counts_unless_the_operator_says_otherwise() -> None:
    assert read({"PROXY_CONFIG": "concurrency: 3"})[0].workers == 3
    assert read({"PROXY_CONFIG": "concurrency: 0", "ZTUNNEL_CPU_LIMIT": "6"})[0].workers == 6
    environ = {"PROXY_CONFIG": "concurrency: 3", "ZTUNNEL_WORKER_THREADS": "4"}
    assert read(environ)[0].workers == 4
