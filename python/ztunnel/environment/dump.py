"""The configuration as upstream shows it: `config` of `/config_dump`, and the same as YAML in the log.

Pure. Keys, their order and their encodings are upstream's (spec/control.md §11): durations are
`{secs, nanos}`, unset is null. What headers hold is never shown (spec/reliability.md U10), nor are tokens and
the local mesh. It shows what was asked for; what of that is not built yet is `unbuilt.py`'s to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.endpoint import RootFile, SystemRoots
from ztunnel.environment import proxy
from ztunnel.environment.config import Loopback
from ztunnel.environment.resolver import resolver_config, resolver_options
from ztunnel.environment.variables import REDACTED

if TYPE_CHECKING:
    from ztunnel.document.checks import Json
    from ztunnel.environment.config import Config, Headers, Place, Server, Sockets, WorkloadInfo


def config_section(config: Config) -> dict[str, Json]:
    """The section, in the order in which upstream logs it."""
    mesh, certificates, ports = config.mesh, config.certificates, config.ports
    everywhere = proxy.wildcard(config)
    return {
        "proxy": config.proxy,
        "dnsProxy": mesh.dns_proxy,
        "windowSize": config.http2.stream_window,
        "connectionWindowSize": config.http2.connection_window,
        "frameSize": config.http2.frame_size,
        "poolMaxStreamsPerConn": config.http2.max_streams,
        "poolUnusedReleaseTimeout": _duration(config.http2.idle),
        "socks5Addr": proxy.SOCKS5_ADDRESS if ports.socks5 else None,
        "adminAddr": _loopback(config, ports.admin),
        "statsAddr": {"SocketAddr": f"{everywhere}:{ports.stats}"},
        "readinessAddr": {"SocketAddr": f"{everywhere}:{proxy.READINESS_PORT}"},
        "inboundAddr": f"{everywhere}:{proxy.HBONE_PORT}",
        "inboundPlaintextAddr": f"{everywhere}:{proxy.PLAINTEXT_PORT}",
        "outboundAddr": f"{everywhere}:{proxy.OUTBOUND_PORT}",
        "dnsProxyAddr": _loopback(config, ports.dns.port)
        if isinstance(ports.dns, Loopback)
        else {"SocketAddr": ports.dns},
        "illegalPorts": _illegal_ports(config),
        "network": config.place.network,
        "localNode": config.place.node,
        "proxyMode": config.mode.capitalize(),
        "proxyWorkloadInformation": _workload(config.workload),
        "clusterId": config.place.cluster_id,
        "clusterDomain": mesh.cluster_domain,
        "caAddress": _address(certificates.server),
        "caRootCert": _roots(certificates.server),
        "altCaHostname": certificates.server.other_name,
        "xdsAddress": _address(mesh.server),
        "xdsRootCert": _roots(mesh.server),
        "altXdsHostname": mesh.server.other_name,
        "preferedServiceNamespace": mesh.preferred_namespace,
        "secretTtl": _duration(certificates.lifetime),
        "xdsOnDemand": mesh.on_demand,
        "fakeCa": certificates.fake,
        "fakeSelfInbound": False,
        "selfTerminationDeadline": _duration(config.drain),
        "proxyMetadata": dict(config.place.metadata),
        "numWorkerThreads": config.workers,
        "requireOriginalSource": config.sockets.original_source,
        "proxyArgs": config.arguments,
        "dnsResolverCfg": resolver_config(config.resolv_conf),
        "dnsResolverOpts": resolver_options(config.resolv_conf, ipv6=ports.ipv6),
        "inpodUds": config.inpod_socket,
        "inpodPortReuse": config.inpod_port_reuse,
        "packetMark": config.sockets.mark,
        "socketConfig": _sockets(config.sockets),
        "xdsHeaders": _headers(mesh.server.headers),
        "caHeaders": _headers(certificates.server.headers),
        "localhostAppTunnel": config.app_tunnel_on_loopback,
        "ztunnelIdentity": _identity(config.place),
        "ztunnelWorkload": _workload(config.place.own),
        "ipv6Enabled": ports.ipv6,
        "crlPath": str(certificates.revoked) if certificates.revoked else None,
        "enableEnhancedBaggage": config.baggage,
    }


def as_yaml(section: dict[str, Json]) -> str:
    """The section as upstream logs it, with a line end behind it.

    Nothing in it can begin a line of its own: what is not plain is quoted on one line.
    """
    # Imported here: whoever only asks for the section does not pay for it.
    from ztunnel.environment.yaml_text import Variant, render

    def variant(value: Json) -> object:
        """`{File: x}` is `!File x` in YAML; a variant without a value is a text in both."""
        if not isinstance(value, dict):
            return value
        ((tag, inner),) = value.items()
        return Variant(tag, inner)

    return render(section | {key: variant(section[key]) for key in _VARIANTS})


def _duration(seconds: float) -> dict[str, Json]:
    secs, nanos = divmod(round(seconds * 1e9), 10**9)
    return {"secs": secs, "nanos": nanos}


def _loopback(config: Config, port: int) -> dict[str, Json]:
    return {"Localhost": [config.ports.loopback_ipv6, port]}


def _illegal_ports(config: Config) -> list[Json]:
    """Our own, to which nothing is proxied."""
    own: list[Json] = [proxy.OUTBOUND_PORT, proxy.HBONE_PORT, proxy.PLAINTEXT_PORT]
    if config.ports.socks5:
        own.append(int(proxy.SOCKS5_ADDRESS.rpartition(":")[2]))
    return own


def _workload(info: WorkloadInfo | None) -> dict[str, Json] | None:
    if info is None:
        return None
    return {"name": info.name, "namespace": info.namespace, "serviceAccount": info.service_account}


def _identity(place: Place) -> str | None:
    if place.own is None:
        return None
    return f"spiffe://{place.trust_domain}/ns/{place.own.namespace}/sa/{place.own.service_account}"


def _address(server: Server) -> str | None:
    return f"https://{server.address.authority}" if server.address else None


def _roots(server: Server) -> Json:
    if isinstance(server.roots, SystemRoots):
        return "Default"
    return {"File": server.roots_text} if isinstance(server.roots, RootFile) else "Static"


def _headers(headers: Headers) -> list[Json]:
    return [[name, REDACTED] for name, _ in headers]


def _sockets(sockets: Sockets) -> dict[str, Json]:
    return {
        "keepaliveTime": _duration(sockets.keepalive_time),
        "keepaliveInterval": _duration(sockets.keepalive_interval),
        "keepaliveRetries": sockets.keepalive_retries,
        "keepaliveEnabled": sockets.keepalive,
        "userTimeoutEnabled": sockets.user_timeout,
    }


_VARIANTS = (
    "adminAddr",
    "statsAddr",
    "readinessAddr",
    "dnsProxyAddr",
    "caRootCert",
    "xdsRootCert",
)
