"""A dedicated proxy's environment: what it becomes, and each mistake by its variable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ztunnel.dataplane.native import NativeDataPlane
from ztunnel.endpoint import Endpoint, RootFile, RootText, SystemRoots, TokenFile, TokenText
from ztunnel.environment.config import Machine
from ztunnel.environment.meant import is_meant
from ztunnel.environment.proxy import ProxySettings, read_environment
from ztunnel.errors import EnvironmentUnusable
from ztunnel.identity.spiffe import Identity
from ztunnel.settings import CaSettings, IstioCaSettings, XdsNode, XdsSettings

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
LEAST = {
    "PROXY_MODE": "dedicated",
    "PROXY_WORKLOAD_INFO": "default/web/web-account",
    "XDS_ADDRESS": "",
    "LOCAL_XDS_PATH": "/etc/mesh.yaml",
    "CA_ADDRESS": "ca.example:15012",
    "CA_ROOT_CA": "SYSTEM",
    "ISTIO_META_DNS_CAPTURE": "false",
}
MACHINE = Machine(cores=2)


def good(**more: str) -> ProxySettings:
    return read_environment({**LEAST, **more}, MACHINE)


def native(**more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(good(**more).node.to_native("web-account"))
    return found


def endpoint(**more: str) -> Endpoint:
    ca = good(**more).node.ca
    assert isinstance(ca, IstioCaSettings)
    return ca.endpoint


def mistakes(without: str = "", **more: str) -> tuple[str, ...]:
    environ = {name: value for name, value in {**LEAST, **more}.items() if name != without}
    with pytest.raises(EnvironmentUnusable) as caught:
        read_environment(environ, MACHINE)
    return tuple(caught.value.lines())


def test_the_least_that_a_proxy_must_be_told_has_upstreams_defaults_for_the_rest() -> None:
    settings = good()
    assert settings.mesh == Path("/etc/mesh.yaml")
    assert settings.workload.service_account == "web-account"
    assert settings.config.place.node is None
    assert settings.config.log_format == "plain"
    assert settings.not_built == ()
    assert settings.complaints == ()
    assert settings.node.drain == 5
    assert isinstance(settings.node.ca, IstioCaSettings)
    assert settings.node.ca.leaf_lifetime == 86400
    assert native() == {
        "workload": {"name": "web", "namespace": "default", "serviceAccount": "web-account"},
        "network": "",
        "clusterId": "Kubernetes",
        "hbonePort": 15008,
        "listeners": {
            "outbound": "[::]:15001",
            "inbound": "[::]:15008",
            "inboundPlaintext": "[::]:15006",
            "socks5": None,
            "forwards": [],
            "metrics": "[::]:15020",
            "readiness": "[::]:15021",
        },
        "packetMark": None,
        "originalSource": None,
        "accessLog": {"format": "plain", "path": None, "template": None},
        "logLevel": "info",
        "workers": 2,
        "splice": True,
        "firstFlight": True,
        "responseBaggage": True,
        "localhostAppTunnel": True,
        "tag": "unknown",
        "authzInfoLogging": False,
        "operatorTunnels": True,
        "ipv6": True,
        "pool": {"maxStreams": 100, "idle": 300.0},
        "http2": {
            "streamWindow": 262144,
            "streamWindowMax": 4194304,
            "connectionWindow": 16777216,
            "frameSize": 1048576,
        },
        "keepalive": {
            "enabled": True,
            "time": 180.0,
            "interval": 180.0,
            "retries": 9,
            "userTimeout": False,
        },
    }


@pytest.mark.parametrize(
    ("variables", "path", "value"),
    [
        ({"IPV6_ENABLED": "false"}, ("listeners", "outbound"), "0.0.0.0:15001"),
        ({"IPV6_ENABLED": "false"}, ("listeners", "inboundPlaintext"), "0.0.0.0:15006"),
        ({"IPV6_ENABLED": "false"}, ("listeners", "readiness"), "0.0.0.0:15021"),
        ({"UNSTABLE_ENABLE_SOCKS5": "true"}, ("listeners", "socks5"), "127.0.0.1:15080"),
        ({"PACKET_MARK": "1337"}, ("packetMark",), 1337),
        ({"ENABLE_ORIG_SRC": "true"}, ("originalSource",), True),
        ({"ENABLE_ORIG_SRC": "false"}, ("originalSource",), False),
        ({"RUST_LOG": "debug,access=off"}, ("logLevel",), "debug,access=off"),
        ({"RUST_LOG": ""}, ("logLevel",), "info"),
        ({"LOG_FORMAT": "json"}, ("accessLog", "format"), "json"),
        ({"LOG_FORMAT": "yaml"}, ("accessLog", "format"), "plain"),
        ({"NETWORK": "net1"}, ("network",), "net1"),
        ({"CLUSTER_ID": "b"}, ("clusterId",), "b"),
        ({"CLUSTER_ID": "b", "ISTIO_META_CLUSTER_ID": "a"}, ("clusterId",), "a"),
        ({"ZTUNNEL_WORKER_THREADS": "7"}, ("workers",), 7),
        ({"POOL_MAX_STREAMS_PER_CONNECTION": "1"}, ("pool", "maxStreams"), 1),
        ({"POOL_UNUSED_RELEASE_TIMEOUT": "1m30s"}, ("pool", "idle"), 90),
        ({"HTTP2_STREAM_WINDOW_SIZE": "65535"}, ("http2", "streamWindow"), 65535),
        ({"HTTP2_STREAM_WINDOW_SIZE": "65535"}, ("http2", "streamWindowMax"), 65535),
        ({"HTTP2_CONNECTION_WINDOW_SIZE": "1048576"}, ("http2", "streamWindowMax"), 1048576),
        ({"HTTP2_CONNECTION_WINDOW_SIZE": "1048576"}, ("http2", "connectionWindow"), 1048576),
        ({"HTTP2_FRAME_SIZE": "16384"}, ("http2", "frameSize"), 16384),
        ({"KEEPALIVE_ENABLED": "false"}, ("keepalive", "enabled"), False),
        ({"KEEPALIVE_TIME": "5m"}, ("keepalive", "time"), 300),
        ({"KEEPALIVE_INTERVAL": "10s"}, ("keepalive", "interval"), 10),
        ({"KEEPALIVE_RETRIES": "3"}, ("keepalive", "retries"), 3),
        ({"USER_TIMEOUT_ENABLED": "true"}, ("keepalive", "userTimeout"), True),
        ({"ENABLE_RESPONSE_BAGGAGE": "false"}, ("responseBaggage",), False),
        ({"AUTHZ_POLICY_INFO_LOGGING": "true"}, ("authzInfoLogging",), True),
        ({"AUTHZ_POLICY_INFO_LOGGING": ""}, ("authzInfoLogging",), False),
        ({"LOCALHOST_APP_TUNNEL": "false"}, ("localhostAppTunnel",), False),
        ({"IPV6_ENABLED": "false"}, ("ipv6",), False),
        ({"PROXY_CONFIG": "statsPort: 15888"}, ("listeners", "metrics"), "[::]:15888"),
        ({"PROXY_CONFIG": "concurrency: 7"}, ("workers",), 7),
        ({"COMPLIANCE_POLICY": "pqc"}, ("tls", "groups"), "pqc"),
    ],
)
def test_each_variable_reaches_its_setting(
    variables: dict[str, str], path: tuple[str, ...], value: object
) -> None:
    found: Any = native(**variables)
    for step in path:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"COMPLIANCE_POLICY": "pqc"},
        {"UNSTABLE_ENABLE_SOCKS5": "true", "IPV6_ENABLED": "false", "ENABLE_ORIG_SRC": "true"},
        {"ZTUNNEL_WORKER_THREADS": "256", "PACKET_MARK": "4294967295", "RUST_LOG": "access=off"},
        {"HTTP2_STREAM_WINDOW_SIZE": "1", "HTTP2_FRAME_SIZE": "16384", "KEEPALIVE_RETRIES": "1"},
        {"HTTP2_CONNECTION_WINDOW_SIZE": "1", "POOL_UNUSED_RELEASE_TIMEOUT": "1ms"},
        {
            "KEEPALIVE_TIME": "366d",
            "KEEPALIVE_INTERVAL": "366d",
            "POOL_UNUSED_RELEASE_TIMEOUT": "366d",
        },
        {"PROXY_CONFIG": "{statsPort: 0, concurrency: 65535}", "AUTHZ_POLICY_INFO_LOGGING": "true"},
    ],
)
def test_the_data_plane_takes_whatever_the_environment_may_say(more: dict[str, str]) -> None:
    data_plane = NativeDataPlane(good(**more).node.to_native("web-account"))
    data_plane.stop()


@pytest.mark.parametrize(
    ("grace", "deadline", "seconds"),
    [
        *((str(grace), None, s) for grace, s in ((30, 25), (11, 6), (10, 9), (5, 4), (1, 1))),
        ("0", None, 1),
        ("30", "90s", 90),
        (None, "0s", 0),
        (None, None, 5),
    ],
)
def test_connections_are_given_less_time_than_kubernetes_gives_us(
    grace: str | None, deadline: str | None, seconds: float
) -> None:
    named = {
        "TERMINATION_GRACE_PERIOD_SECONDS": grace,
        "CONNECTION_TERMINATION_DEADLINE": deadline,
    }
    assert good(**{k: v for k, v in named.items() if v is not None}).node.drain == seconds


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("istiod:15012", "istiod", 15012),
        ("https://istiod.istio-system.svc:15012/path", "istiod.istio-system.svc", 15012),
        ("istiod", "istiod", 443),
        ("[::1]:15012", "::1", 15012),
        ("10.0.0.1:1", "10.0.0.1", 1),
    ],
)
def test_the_authoritys_address_needs_neither_scheme_nor_path(
    address: str, host: str, port: int
) -> None:
    found = endpoint(CA_ADDRESS=address)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "localhost:15012"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "istiod.istio-system.svc:15012"),
    ],
)
def test_without_an_address_the_authority_is_where_istio_installs_it(
    more: dict[str, str], expected: str
) -> None:
    environ = {name: value for name, value in LEAST.items() if name != "CA_ADDRESS"}
    ca = read_environment({**environ, **more}, MACHINE).node.ca
    assert isinstance(ca, IstioCaSettings)
    assert str(ca.endpoint) == expected


def test_roots_are_a_file_the_machines_or_a_text(tmp_path: Path) -> None:
    file = tmp_path / "root.pem"
    file.write_text(PEM)
    assert endpoint(CA_ROOT_CA=str(file)).roots == RootFile(file)
    assert endpoint(CA_ROOT_CA="SYSTEM").roots == SystemRoots()
    assert endpoint(CA_ROOT_CA=PEM).roots == RootText(PEM)


def test_a_token_is_a_file_or_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "token"
    file.write_text("secret")
    assert endpoint(AUTH_TOKEN=str(file)).token == TokenFile(file)
    assert endpoint(AUTH_TOKEN="a" * 5000).token == TokenText("a" * 5000)
    assert endpoint(AUTH_TOKEN=str(tmp_path)).token == TokenText(str(tmp_path))
    assert "secret" not in repr(endpoint(AUTH_TOKEN="secret"))
    assert endpoint().token is None
    default = tmp_path / "var/run/secrets/tokens/istio-token"
    default.parent.mkdir(parents=True)
    default.write_text("secret")
    assert endpoint().token == TokenFile(Path("var/run/secrets/tokens/istio-token"))


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("AUTH_TOKEN", "must be a file or the token itself; unset is "),
        ("CA_ROOT_CA", "no such file, and neither certificates in PEM nor SYSTEM"),
    ],
)
def test_the_empty_text_is_not_taken_for_the_current_directory(variable: str, reason: str) -> None:
    with pytest.raises(EnvironmentUnusable) as caught:
        endpoint(**{variable: ""})
    (line,) = caught.value.lines()
    assert f"invalid env var {variable}=" in line
    assert reason in line


def test_what_else_the_authority_is_told_and_may_be_called() -> None:
    found = endpoint(
        ALT_CA_HOSTNAME="istiod.istio-system.svc",
        CA_HEADER_X_FOO="bar",
        CLUSTER_ID="c1",
        PACKET_MARK="7",
    )
    assert found.other_name == "istiod.istio-system.svc"
    assert found.headers == (("x_foo", "bar"),)
    assert found.cluster_id == "c1"
    assert found.mark == 7


def test_the_mesh_may_stand_in_the_environment_itself() -> None:
    environ = {name: value for name, value in LEAST.items() if name != "LOCAL_XDS_PATH"}
    settings = read_environment({**environ, "LOCAL_XDS": "workloads: []"}, MACHINE)
    assert settings.mesh == "workloads: []"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HTTP2_FRAME_SIZE", "16383", "must be a whole number from 16384 to 16777215"),
        ("PACKET_MARK", "4294967296", "must be a whole number from 0 to 4294967295"),
        ("POOL_UNUSED_RELEASE_TIMEOUT", "0s", "must be a duration from"),
        ("PROXY_MODE", "both", "must be shared or dedicated"),
        ("PROXY_MODE", "", "must be shared or dedicated"),
        ("PROXY_MODE", "shared", "not built yet"),
        ("PROXY_WORKLOAD_INFO", "a/b", "must be namespace/name/serviceaccount"),
        ("PROXY_WORKLOAD_INFO", "a/b/c/d", "must be namespace/name/serviceaccount"),
        ("PROXY_WORKLOAD_INFO", "", "must be namespace/name/serviceaccount"),
        ("PROXY_WORKLOAD_INFO", "a//c", "must be namespace/name/serviceaccount"),
        ("XDS_ROOT_CA", "/no/such/file", "no such file"),
        ("XDS_HEADER_A B", "x", "header characters"),
        ("ENABLE_PROXY", "false", "nothing is left to run"),
        ("XDS_ADDRESS", "http://istiod:15012", "TLS is required"),
        ("COMPLIANCE_POLICY", "PQC", "must be pqc or empty"),
        ("ISTIO_META_DNS_PROXY_ADDR", "not-an-address", "must be localhost:port or ip:port"),
        ("ISTIO_META_DNS_PROXY_ADDR", "10.0.0.1", "must be localhost:port or ip:port"),
        ("ISTIO_META_DNS_PROXY_ADDR", "::1:53", "must be localhost:port or ip:port"),
        ("LOCAL_XDS", "workloads: []", "LOCAL_XDS is set as well"),
        ("LOCAL_XDS_PATH", "", "must be a file"),
        ("CA_ADDRESS", "", "must be an address"),
        ("CA_ADDRESS", "http://istiod:15012", "TLS is required"),
        ("CA_ADDRESS", "https://", "must be an address"),
        ("CA_ADDRESS", "istiod:x", "x"),
        ("CA_ROOT_CA", "/no/such/file", "no such file"),
        ("CA_HEADER_A B", "x", "header characters"),
        ("CA_HEADER_A", "x\ny", "header characters"),
        ("RUST_LOG", "bogus", "not a log level"),
        ("RUST_LOG", "info,=debug", "not a log level"),
    ],
)
def test_what_is_set_and_cannot_be_used_is_named_with_what_is_allowed(
    name: str, value: str, reason: str
) -> None:
    # Whom to believe matters where somebody is asked.
    more = {"XDS_ADDRESS": "istiod:1"} if name == "XDS_ROOT_CA" else {}
    found = mistakes(**{name: value, **more})
    mine = [mistake for mistake in found if reason in mistake]
    assert len(mine) == 1, found
    assert f"env var {name if name != 'LOCAL_XDS' else 'LOCAL_XDS_PATH'}=" in mine[0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("PROXY_MODE", "shared mode of a node is not built yet; set PROXY_MODE=dedicated"),
        ("PROXY_WORKLOAD_INFO", "must be namespace/name/serviceaccount"),
        ("LOCAL_XDS_PATH", "must be a file with the mesh, as XDS_ADDRESS is empty"),
        ("CA_ROOT_CA", "there is no ./var/run/secrets/istio/root-cert.pem"),
    ],
)
def test_what_is_missing_is_named(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (mistake,) = mistakes(without=name)
    assert mistake.startswith(f"missing env var {name} (")
    assert reason in mistake


def test_one_mistake_does_not_hide_the_next() -> None:
    found = mistakes(IPV6_ENABLED="no", PACKET_MARK="x", RUST_LOG="?", SECRET_TTL="y")
    assert len(found) == 4
    assert str(EnvironmentUnusable(found)) == "the environment has 4 mistakes"


def test_a_value_cannot_break_out_of_its_message() -> None:
    (mistake,) = mistakes(PACKET_MARK="1\nerror: " + "x" * 1000)
    assert "\n" not in mistake
    assert len(mistake) < 300


def test_what_is_known_and_not_built_is_named_unless_it_asks_for_nothing() -> None:
    idle = {
        "CLUSTER_DOMAIN": "cluster.local",
        "CRL_PATH": "/crl",
        "ENABLE_RESPONSE_BAGGAGE": "true",
        "INPOD_ENABLED": "true",
        "INPOD_PORT_REUSE": "true",
        "INPOD_UDS": "/var/run/ztunnel/ztunnel.sock",
        "INSTANCE_IP": "10.0.0.1",
        "ISTIO_META_CLUSTER_ID": "c",
        "ISTIO_META_ENABLE_HBONE": "true",
        "POD_NAME": "z",
        "RUST_BACKTRACE": "1",
        "TLS12_ENABLED": "false",
        "XDS_ON_DEMAND": "false",
    }
    assert good(**idle).not_built == ()
    asked = {
        "CLUSTER_DOMAIN": "example.org",
        "INPOD_UDS": "/sock",
        "ISTIO_META_DNS_CAPTURE": "TRUE",
        "TLS12_ENABLED": "true",
    }
    assert good(**asked).not_built == tuple(sorted(asked))


XDS = {"XDS_ADDRESS": "istiod.istio-system.svc:15012", "XDS_ROOT_CA": "SYSTEM"}


def test_without_an_address_nobody_delivers_the_mesh() -> None:
    assert good().node.xds is None
    assert "onDemand" not in native()


def test_the_delivery_of_the_mesh_may_be_all_there_is() -> None:
    environ = {name: value for name, value in LEAST.items() if name != "LOCAL_XDS_PATH"}
    settings = read_environment({**environ, **XDS}, MACHINE)
    assert settings.mesh is None
    assert settings.not_built == ()
    xds = settings.node.xds
    assert xds is not None
    assert (xds.endpoint.host, xds.endpoint.port) == ("istiod.istio-system.svc", 15012)
    assert xds.endpoint.roots == SystemRoots()
    assert not xds.on_demand


def test_each_variable_of_the_delivery_reaches_its_setting(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    settings = good(
        **XDS,
        ALT_XDS_HOSTNAME="istiod",
        AUTH_TOKEN=str(token),
        CLUSTER_ID="c",
        PACKET_MARK="1337",
        XDS_HEADER_Foo="bar",
        XDS_ON_DEMAND="true",
        POD_NAME="zt",
        POD_NAMESPACE="istio-system",
        NODE_NAME="node-a",
        INSTANCE_IP="10.0.0.9",
        ISTIO_META_FOO="foo",
        ISTIO_METAJSON_LABELS='{"app": "x"}',
        PROXY_CONFIG="proxyMetadata: {ISTIO_META_BAR: bar}",
    )
    assert settings.mesh == Path("/etc/mesh.yaml")
    xds = settings.node.xds
    assert xds == XdsSettings(
        endpoint=Endpoint(
            host="istiod.istio-system.svc",
            port=15012,
            roots=SystemRoots(),
            other_name="istiod",
            token=TokenFile(token),
            cluster_id="c",
            mark=1337,
            headers=(("foo", "bar"),),
        ),
        node=XdsNode(
            pod="zt",
            namespace="istio-system",
            instance_ip="10.0.0.9",
            name="node-a",
            metadata=(("BAR", "bar"), ("DNS_CAPTURE", "false"), ("FOO", "foo")),
            json_metadata=(("LABELS", {"app": "x"}),),
        ),
        on_demand=True,
    )
    assert native(**XDS, XDS_ON_DEMAND="true")["onDemand"] is True


def test_where_istio_installs_it_is_asked_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (mistake,) = mistakes(without="XDS_ADDRESS")
    assert mistake.startswith("missing env var XDS_ROOT_CA (there is no ./var/run/secrets/istio/")


def test_the_dns_proxy_is_asked_for_by_saying_nothing() -> None:
    environ = {name: value for name, value in LEAST.items() if name != "ISTIO_META_DNS_CAPTURE"}
    found = read_environment(environ, MACHINE)
    assert found.not_built == ("ISTIO_META_DNS_CAPTURE (unset means true)",)
    assert found.config.mesh.dns_proxy


def test_a_proxy_may_sign_for_itself_if_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {name: value for name, value in LEAST.items() if not name.startswith("CA_")}
    found = read_environment(
        {**environ, "FAKE_CA": "true", "CA_ADDRESS": "", "SECRET_TTL": "1h"}, MACHINE
    )
    assert found.node.ca == CaSettings(directory=None, leaf_lifetime=3600)
    ca = found.node_of(Identity("example.org", "default", "web-account")).ca
    assert isinstance(ca, CaSettings)
    assert ca.trust_domain == "example.org"


def test_an_authority_that_signs_elsewhere_is_left_as_it_is() -> None:
    found = good()
    assert found.node_of(Identity("example.org", "default", "web-account")) is found.node


def test_bytes_that_are_no_utf8_count_as_unset() -> None:
    assert good(NETWORK="\udcff").node.network == ""


@pytest.mark.parametrize(
    ("environ", "meant"),
    [
        ({}, False),
        ({"PATH": "/bin", "NODE_NAME": "n", "RUST_LOG": "info", "NETWORK": "x"}, False),
        ({"PROXY_MODE": "dedicated"}, True),
        ({"XDS_ADDRESS": ""}, True),
    ],
)
def test_only_variables_that_nobody_else_sets_mean_a_proxy(
    environ: dict[str, str], meant: bool
) -> None:
    assert is_meant(environ) is meant


def test_a_dedicated_proxy_asks_for_itself_and_follows_its_list_of_revoked_certificates() -> None:
    node = good(CRL_PATH="/var/run/secrets/istio/crl/ca-crl.pem").node
    assert node.crl == Path("/var/run/secrets/istio/crl/ca-crl.pem")
    assert isinstance(node.ca, IstioCaSettings)
    assert not node.ca.impersonates
    assert good().node.crl is None
