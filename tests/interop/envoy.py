"""Envoy as the peer, configured by hand: HBONE's server (CONNECT terminated) or its client (a TCP tunnel).

One process, one worker thread, a static configuration; what it counted comes from its admin port.
"""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.interop import tools
from tests.interop.process import running
from tests.support.nodes import as_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.interop.process import Running
    from tests.support.certs import Leaf

    Address = tuple[str, int]
    Config = dict[str, Any]

# What every HTTP/2 peer starts with (RFC 9113 §6.9.2), and the least that Envoy takes.
SMALL_WINDOW = 65535
# Istio's waypoints say the same (spec/dataplane.md §6.5).
STREAMS = 100

_TYPES = "type.googleapis.com/envoy.extensions"
_HTTP = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
_LINE = {
    "authority": "%REQ(:AUTHORITY)%",
    "baggage": "%REQ(BAGGAGE)%",
    "forwarded": "%REQ(FORWARDED)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "client": "%DOWNSTREAM_PEER_URI_SAN%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "flags": "%RESPONSE_FLAGS%",
    "upstream": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "written": "%DOWNSTREAM_WIRE_BYTES_SENT%",
}


@dataclass(frozen=True, kw_only=True)
class Envoy:
    """One that runs."""

    process: Running
    admin: Address
    listener: Address

    def post(self, path: str) -> str:
        """Ask for something at the admin port."""
        return _ask(self.admin, "POST", path)

    def stat(self, name: str) -> int:
        """A counter or gauge, now; 0 if it has not come to be."""
        stats = json.loads(_ask(self.admin, "GET", "/stats?format=json"))["stats"]
        return next((int(stat["value"]) for stat in stats if stat.get("name") == name), 0)

    def access(self, **wanted: str) -> dict[str, Any]:
        """Wait for a line of the access log with this text in these fields."""

        def fits(line: str) -> bool:
            said = _parsed(line)
            return all(text in str(said.get(name)) for name, text in wanted.items()) and bool(said)

        return _parsed(self.process.output.wait(fits)[0])


@contextmanager
def envoy_server(
    folder: Path, *, listen: Address, leaf: Leaf, roots: bytes, client: str, app: Address
) -> Iterator[Envoy]:
    """HBONE's server: TLS with the client's name checked, CONNECT to one application."""
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "hbone",
        "codec_type": "HTTP2",
        "access_log": [_access_log()],
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"allow_connect": True, **_limits()},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http_filters": [_http_filter()],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"connect_matcher": {}},
                            "route": {
                                "cluster": "application",
                                "timeout": "0s",
                                "upgrade_configs": [
                                    {"upgrade_type": "CONNECT", "connect_config": {}}
                                ],
                            },
                        }
                    ],
                }
            ]
        },
    }
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _tls(folder, leaf, roots, client),
    }
    chain = {
        "filters": [{"name": "http", "typed_config": manager}],
        "transport_socket": {"name": "tls", "typed_config": tls},
    }
    with _envoy(folder, listen, chain, _cluster("application", app)) as envoy:
        yield envoy


@contextmanager
def envoy_client(
    folder: Path, *, listen: Address, leaf: Leaf, roots: bytes, server: str, peer: Address, app: str
) -> Iterator[Envoy]:
    """HBONE's client: connections to `listen` go by CONNECT to `app` in tunnels to `peer`."""
    proxy = {
        "@type": f"{_TYPES}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp",
        "cluster": "node",
        "access_log": [_access_log()],
        "idle_timeout": "0s",
        "tunneling_config": {"hostname": app},
    }
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": _tls(folder, leaf, roots, server),
    }
    cluster = _cluster("node", peer) | {
        "transport_socket": {"name": "tls", "typed_config": tls},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP,
                "explicit_http_config": {"http2_protocol_options": _limits()},
            }
        },
    }
    chain = {"filters": [{"name": "tcp", "typed_config": proxy}]}
    with _envoy(folder, listen, chain, cluster) as envoy:
        yield envoy


@contextmanager
def _envoy(
    folder: Path, listen: Address, chain: Mapping[str, object], cluster: Mapping[str, object]
) -> Iterator[Envoy]:
    admin = folder / "envoy.admin"
    config = {
        "admin": {"address": _address((listen[0], 0))},
        "static_resources": {
            "listeners": [{"name": "way", "address": _address(listen), "filter_chains": [chain]}],
            "clusters": [cluster],
        },
    }
    file = folder / "envoy.json"
    file.write_text(json.dumps(config))
    # Drained at once: gradually, Envoy tells a random part of the connections at a time.
    options = [
        "--drain-strategy",
        "immediate",
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--file-flush-interval-msec",
        "10",
    ]
    where = ["-c", str(file), "--admin-address-path", str(admin)]
    with running("envoy", str(tools.envoy()), *where, *options) as process:
        process.errors.wait(lambda line: "starting main dispatch loop" in line)
        process.errors.wait(lambda line: "all dependencies initialized. starting workers" in line)
        port = as_address(admin.read_text())
        (way,) = json.loads(_ask(port, "GET", "/listeners?format=json"))["listener_statuses"]
        bound = way["local_address"]["socket_address"]
        listener = (bound["address"], bound["port_value"])
        yield Envoy(process=process, admin=port, listener=listener)


def _ask(admin: Address, method: str, path: str) -> str:
    connection = http.client.HTTPConnection(*admin, timeout=10)
    try:
        connection.request(method, path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _tls(folder: Path, leaf: Leaf, roots: bytes, expected: str) -> Config:
    key = folder / "envoy-key.pem"
    key.touch(mode=0o600)
    key.write_bytes(leaf.key)
    return {
        # Both: as a client Envoy stops at 1.2 by itself, and then has no version left.
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": leaf.chain.decode()},
                "private_key": {"filename": str(key)},
            }
        ],
        "validation_context": {
            "trusted_ca": {"inline_string": roots.decode()},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": expected}}],
        },
    }


def _limits() -> Config:
    return {
        "max_concurrent_streams": STREAMS,
        "initial_stream_window_size": SMALL_WINDOW,
        "initial_connection_window_size": SMALL_WINDOW,
        "connection_keepalive": {"interval": "0.2s", "timeout": "2s"},
    }


def _cluster(name: str, address: Address) -> Config:
    endpoint = {"endpoint": {"address": _address(address)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _access_log() -> Config:
    stdout = f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog"
    return {
        "name": "stdout",
        "typed_config": {"@type": stdout, "log_format": {"json_format": _LINE}},
    }


def _http_filter() -> Config:
    return {
        "name": "router",
        "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
    }


def _address(address: Address) -> Config:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def _parsed(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
