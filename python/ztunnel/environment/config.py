"""All that upstream's environment says, as values: what `/config_dump` shows and settings are made of.

Values only. `reading.py` fills them, `dump.py` shows them in upstream's spelling, `proxy.py` makes settings of
them. Durations are seconds. None is "unset" wherever upstream knows that state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.document.checks import Json
    from ztunnel.endpoint import Roots


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the proxy is about to run, as far as its settings depend on it."""

    cores: int
    loopback_ipv6: bool = True
    mesh_config: bytes | None = None
    """The mesh config file; None: there is none."""
    resolv_conf: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of all cores."""

    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """A port on the loopback addresses: of IPv4, and of IPv6 where there is one."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadInfo:
    """Who: a workload, or a ztunnel itself."""

    namespace: str
    name: str
    service_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a server of the control plane is."""

    host: str
    port: int
    authority: str
    """As it was written."""


Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server of the control plane; without an address it is not asked."""

    address: ServerAddress | None
    roots: Roots | None
    """None: there are none where they should be."""
    roots_text: str
    """As it was written; `Path` would lose the `./` that operators know."""
    other_name: str | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2:
    """Windows and frames in bytes, and the pool of tunnels."""

    stream_window: int
    connection_window: int
    frame_size: int
    max_streams: int
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """What the kernel is told of each connection."""

    keepalive: bool
    keepalive_time: float
    keepalive_interval: float
    keepalive_retries: int
    user_timeout: bool
    mark: int | None
    original_source: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where to listen; upstream's other ports cannot be chosen."""

    admin: int
    stats: int
    dns: Loopback | str
    socks5: bool
    ipv6: bool
    loopback_ipv6: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Who signs, for how long, and who may not be believed any more."""

    server: Server
    fake: bool
    lifetime: float
    revoked: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Which TLS is spoken in the mesh."""

    policy: str
    tls12: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Where the mesh comes from, beside the control plane's delivery."""

    server: Server
    on_demand: bool
    local: Path | str | None
    """A file, or the mesh itself."""
    preferred_namespace: str | None
    cluster_domain: str
    dns_proxy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which node, in which network and cluster."""

    node: str | None
    network: str
    cluster_id: str
    own: WorkloadInfo | None
    """The ztunnel itself."""
    pod: str | None
    pod_namespace: str | None
    """Of the ztunnel itself, each known or not, as the control plane is told of it."""
    trust_domain: str
    instance_ip: str
    metadata: tuple[tuple[str, str], ...]
    json_metadata: tuple[tuple[str, Json], ...]
    """For the node that the control plane is told of, beside `metadata`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The environment, whole."""

    proxy: bool
    mode: str
    workload: WorkloadInfo | None
    place: Place
    ports: Ports
    http2: Http2
    sockets: Sockets
    certificates: Certificates
    mesh: Mesh
    tls: Tls
    workers: int
    drain: float
    log_format: str
    log_filter: str
    info_decisions: bool
    """Decisions of policy are logged at info."""
    app_tunnel_on_loopback: bool
    baggage: bool
    inpod_socket: str
    inpod_port_reuse: bool
    arguments: str
    """Of the command line, joined by blanks."""
    resolv_conf: str
