"""The configuration as upstream shows it, beside what upstream itself showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ztunnel.environment.config import Config, Machine
from ztunnel.environment.dump import as_yaml, config_section
from ztunnel.environment.reading import read_config
from ztunnel.environment.variables import Variables

if TYPE_CHECKING:
    from collections.abc import Mapping

VECTORS = Path(__file__).parents[2] / "vectors"

# The environment of the node that was recorded.
RECORDED = {
    "PROXY_MODE": "dedicated",
    "PROXY_WORKLOAD_INFO": "default/poda/sa-a",
    "NODE_NAME": "node-a",
    "CA_ADDRESS": "https://10.66.0.1:15412",
    "XDS_ADDRESS": "https://10.66.0.1:15412",
    "ALT_CA_HOSTNAME": "istiod.istio-system.svc",
    "ALT_XDS_HOSTNAME": "istiod.istio-system.svc",
    "PACKET_MARK": "1337",
    "IPV6_ENABLED": "false",
    "ZTUNNEL_WORKER_THREADS": "2",
    "ISTIO_META_CLUSTER_ID": "Kubernetes",
    "ISTIO_META_DNS_CAPTURE": "false",
}
ROOTS = Path("var/run/secrets/istio/root-cert.pem")


@pytest.fixture(autouse=True)
def in_a_folder_with_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ROOTS.parent.mkdir(parents=True)
    ROOTS.write_text("")


def config(environ: Mapping[str, str], **more: Any) -> Config:
    variables = Variables(environ)
    machine = Machine(cores=2, resolv_conf="nameserver 10.255.255.53\n", **more)
    found = read_config(variables, machine, ["proxy", "ztunnel"])
    assert variables.mistakes == []
    return found


def section(**more: str) -> dict[str, Any]:
    return config_section(config(RECORDED | more))


def test_the_section_is_upstreams_for_upstreams_environment() -> None:
    assert section() == json.loads((VECTORS / "upstream_config.json").read_text())


def test_the_log_has_upstreams_lines_for_upstreams_environment() -> None:
    assert as_yaml(section()) == (VECTORS / "upstream_config.yaml").read_text()


def test_addresses_name_both_families_if_there_are_two() -> None:
    both = section(IPV6_ENABLED="true")
    assert both["adminAddr"] == {"Localhost": [True, 15000]}
    assert both["statsAddr"] == {"SocketAddr": "[::]:15020"}
    assert both["inboundAddr"] == "[::]:15008"
    assert both["dnsResolverOpts"]["ip_strategy"] == "Ipv4AndIpv6"
    without = config_section(config(RECORDED | {"IPV6_ENABLED": "true"}, loopback_ipv6=False))
    assert without["adminAddr"] == {"Localhost": [False, 15000]}


@pytest.mark.parametrize(
    ("variables", "key", "value"),
    [
        ({"XDS_ADDRESS": ""}, "xdsAddress", None),
        ({"XDS_ADDRESS": "istiod:1/path"}, "xdsAddress", "https://istiod:1"),
        ({"FAKE_CA": "true"}, "caAddress", None),
        ({"FAKE_CA": "true"}, "fakeCa", True),
        ({"CA_ROOT_CA": "SYSTEM"}, "caRootCert", "Default"),
        ({"XDS_ROOT_CA": "-----BEGIN CERTIFICATE-----"}, "xdsRootCert", "Static"),
        ({"SECRET_TTL": "1h500ms"}, "secretTtl", {"secs": 3600, "nanos": 500_000_000}),
        ({"UNSTABLE_ENABLE_SOCKS5": "true"}, "socks5Addr", "127.0.0.1:15080"),
        ({"UNSTABLE_ENABLE_SOCKS5": "true"}, "illegalPorts", [15001, 15008, 15006, 15080]),
        ({"CRL_PATH": "/crl"}, "crlPath", "/crl"),
        ({"CRL_PATH": ""}, "crlPath", None),
        ({"ENABLE_ORIG_SRC": "false"}, "requireOriginalSource", False),
        ({"ISTIO_META_DNS_PROXY_ADDR": "localhost:53"}, "dnsProxyAddr", {"Localhost": [False, 53]}),
        (
            {"ISTIO_META_DNS_PROXY_ADDR": "10.0.0.1:53"},
            "dnsProxyAddr",
            {"SocketAddr": "10.0.0.1:53"},
        ),
        (
            {"POD_NAME": "z", "POD_NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel"},
            "ztunnelIdentity",
            "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
        ),
        (
            {"POD_NAME": "z", "POD_NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel"},
            "ztunnelWorkload",
            {"name": "z", "namespace": "istio-system", "serviceAccount": "ztunnel"},
        ),
        ({"POD_NAME": "z"}, "ztunnelIdentity", None),
    ],
)
def test_each_value_has_upstreams_encoding(
    variables: dict[str, str], key: str, value: object
) -> None:
    assert section(**variables)[key] == value


def test_the_mark_of_a_shared_proxy_has_a_default() -> None:
    environ = RECORDED | {"PROXY_MODE": "shared"}
    del environ["PACKET_MARK"]
    shown = config_section(config(environ))
    assert (shown["proxyMode"], shown["packetMark"]) == ("Shared", 1337)


def test_what_headers_and_tokens_hold_is_never_shown() -> None:
    more = {
        "XDS_HEADER_AUTHORIZATION": "Bearer xyzzy",
        "CA_HEADER_X_KEY": "xyzzy",
        "AUTH_TOKEN": "xyzzy",
        "LOCAL_XDS": "xyzzy",
    }
    shown = section(**more)
    assert shown["xdsHeaders"] == [["authorization", "<redacted>"]]
    assert shown["caHeaders"] == [["x_key", "<redacted>"]]
    assert "xyzzy" not in as_yaml(shown)


def test_no_value_can_begin_a_line_of_the_log() -> None:
    text = "forged\n2026-01-01T00:00:00Z\terror\taccess\t.\u2028\x1b[31m"
    logged = as_yaml(section(NETWORK=text, ISTIO_META_A=text, NODE_NAME="a" * 5000))
    assert "\nforged" not in logged
    assert "\n2026" not in logged
    assert "\x1b" not in logged
    assert "\u2028" not in logged
    read = yaml.load(logged.replace("!Localhost", "").replace("!File", ""), _AnyTag)  # noqa: S506
    assert read["network"] == text
    assert read["localNode"] == "a" * 5000


class _AnyTag(yaml.SafeLoader):
    """Takes a variant for what stands in it."""


_AnyTag.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(node))


def test_the_resolver_is_what_the_machines_file_says() -> None:
    text = (
        "# made by hand\nsearch ns.svc.cluster.local cluster.local\nnameserver 10.0.0.1\n"
        "nameserver ::1 # second\nnameserver nonsense\noptions ndots:5 timeout:1 rotate x:y\ndomain\n"
    )
    variables = Variables(RECORDED)
    shown: Any = config_section(read_config(variables, Machine(cores=1, resolv_conf=text)))
    assert shown["dnsResolverCfg"]["search"] == ["ns.svc.cluster.local", "cluster.local"]
    assert [s["ip"] for s in shown["dnsResolverCfg"]["name_servers"]] == ["10.0.0.1", "::1"]
    assert (shown["dnsResolverOpts"]["ndots"], shown["dnsResolverOpts"]["timeout"]) == (5, 1)
