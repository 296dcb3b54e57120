"""A dedicated proxy's settings, made of what the environment says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.environment import table
from ztunnel.environment.control_plane import endpoint, token, xds
from ztunnel.environment.reading import read_config
from ztunnel.environment.unbuilt import not_built, refuse
from ztunnel.environment.variables import Variables
from ztunnel.errors import EnvironmentUnusable
from ztunnel.settings import (
    AccessLog,
    CaSettings,
    IstioCaSettings,
    Listen,
    NodeSettings,
    WorkloadName,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ztunnel.document.checks import Json
    from ztunnel.endpoint import Token
    from ztunnel.environment.config import Config, Machine, WorkloadInfo
    from ztunnel.identity.spiffe import Identity
    from ztunnel.settings import XdsSettings

OUTBOUND_PORT = 15001
PLAINTEXT_PORT = 15006
HBONE_PORT = 15008
READINESS_PORT = 15021
SOCKS5_ADDRESS = "127.0.0.1:15080"
# As the data plane's own default.
FIRST_WINDOW = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """What the environment says, and what becomes of it."""

    config: Config
    node: NodeSettings
    workload: WorkloadInfo
    mesh: Path | str | None
    """The file that the mesh is in, or the mesh itself; None: all of it is delivered."""
    not_built: tuple[str, ...]
    """Variables that ask for something and have no effect yet."""
    complaints: tuple[str, ...]
    """What is wrong and no reason not to start."""

    def node_of(self, identity: Identity | None) -> NodeSettings:
        """The node's settings, once the mesh has said who we are: a CA of our own signs for our trust domain.

        None: it is a control plane that will say it.
        """
        ca = self.node.ca
        if not isinstance(ca, CaSettings) or identity is None:
            return self.node
        own = dataclasses.replace(ca, trust_domain=identity.trust_domain)
        return dataclasses.replace(self.node, ca=own)


def read_environment(
    environ: Mapping[str, str], machine: Machine, arguments: Sequence[str] = ()
) -> ProxySettings:
    """Reads it; `EnvironmentUnusable` with every mistake."""
    variables = Variables(environ)
    config = read_config(variables, machine, arguments)
    shown = token(variables)
    refuse(variables, config)
    ca = _ca(config, shown)
    if variables.mistakes or config.workload is None or ca is None:
        raise EnvironmentUnusable(variables.mistakes)
    return ProxySettings(
        config=config,
        node=dataclasses.replace(
            _node(config, config.workload, ca, xds(config, shown)),
            tag=variables.get(table.META_ISTIO_VERSION.name) or "unknown",
        ),
        workload=config.workload,
        mesh=config.mesh.local,
        not_built=not_built(variables),
        complaints=tuple(variables.complaints),
    )


def _ca(config: Config, shown: Token) -> CaSettings | IstioCaSettings | None:
    """Who signs; None after a mistake, which was noted."""
    lifetime = config.certificates.lifetime
    if config.certificates.fake:
        domain = config.place.trust_domain
        return CaSettings(directory=None, leaf_lifetime=lifetime, trust_domain=domain)
    where = endpoint(config, shown)
    if where is None:
        return None
    shared = config.mode == "shared"
    return IstioCaSettings(endpoint=where, leaf_lifetime=lifetime, impersonates=shared)


def _node(
    config: Config,
    workload: WorkloadInfo,
    ca: CaSettings | IstioCaSettings,
    delivery: XdsSettings | None,
) -> NodeSettings:
    return NodeSettings(
        workload=WorkloadName(namespace=workload.namespace, name=workload.name),
        ca=ca,
        xds=delivery,
        crl=config.certificates.revoked,
        listen=_listen(config),
        hbone_port=HBONE_PORT,
        network=config.place.network,
        cluster_id=config.place.cluster_id,
        access_log=AccessLog(format=config.log_format),
        log_level=config.log_filter,
        http2=_http2(config),
        pool=(("maxStreams", config.http2.max_streams), ("idle", config.http2.idle)),
        keepalive=_keepalive(config),
        tls=(("groups", config.tls.policy),) if config.tls.policy else (),
        workers=config.workers,
        packet_mark=config.sockets.mark,
        original_source=config.sockets.original_source,
        drain=config.drain,
        authz_info_logging=config.info_decisions,
        response_baggage=config.baggage,
        # As upstream: its list of forbidden ports has those of traffic only.
        operator_tunnels=True,
        localhost_app_tunnel=config.app_tunnel_on_loopback,
        ipv6=config.ports.ipv6,
    )


def wildcard(config: Config) -> str:
    """Every address of this machine."""
    return "[::]" if config.ports.ipv6 else "0.0.0.0"  # noqa: S104


def _listen(config: Config) -> Listen:
    everywhere = wildcard(config)
    return Listen(
        outbound=f"{everywhere}:{OUTBOUND_PORT}",
        inbound=f"{everywhere}:{HBONE_PORT}",
        inbound_plaintext=f"{everywhere}:{PLAINTEXT_PORT}",
        socks5=SOCKS5_ADDRESS if config.ports.socks5 else None,
        metrics=f"{everywhere}:{config.ports.stats}",
        readiness=f"{everywhere}:{READINESS_PORT}",
        admin=_loopback(config, config.ports.admin),
    )


def _loopback(config: Config, port: int) -> tuple[str, ...]:
    """A port on the loopback addresses that there are (spec/control.md §2.4)."""
    four = f"127.0.0.1:{port}"
    return (four, f"[::1]:{port}") if config.ports.loopback_ipv6 else (four,)


def _http2(config: Config) -> tuple[tuple[str, Json], ...]:
    """A stream begins with less than it is allowed, and earns the rest by draining."""
    # A stream never gets more than its connection.
    most = min(config.http2.stream_window, config.http2.connection_window)
    return (
        ("streamWindow", min(FIRST_WINDOW, most)),
        ("streamWindowMax", most),
        ("connectionWindow", config.http2.connection_window),
        ("frameSize", config.http2.frame_size),
    )


def _keepalive(config: Config) -> tuple[tuple[str, Json], ...]:
    return (
        ("enabled", config.sockets.keepalive),
        ("time", config.sockets.keepalive_time),
        ("interval", config.sockets.keepalive_interval),
        ("retries", config.sockets.keepalive_retries),
        ("userTimeout", config.sockets.user_timeout),
    )
