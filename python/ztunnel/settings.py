"""What a node is told about itself, and the `node:` section of a node file, which says it.

Takes a document, touches no file. The mesh in the same file is `local.schema`'s; `nodefile.py` puts the two
together. Counterpart for a node that is told by environment variables: `ztunnel.environment`. Every default
of a node file stands in a dataclass here, once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from ztunnel import spelling
from ztunnel.document.checks import (
    BAD,
    Bad,
    Check,
    Field,
    Json,
    Report,
    boolean,
    integer,
    list_of,
    one_of,
    spelled,
    struct,
    text,
)
from ztunnel.document.compose import shown
from ztunnel.document.tree import Scalar

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.document.tree import Node
    from ztunnel.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadName:
    """The workload that a node stands for."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the node listens, `ip:port`; what is None is not opened."""

    outbound: str | None = None
    inbound: str | None = None
    inbound_plaintext: str | None = None
    socks5: str | None = None
    metrics: str | None = None
    readiness: str | None = None
    admin: tuple[str, ...] = ()
    """Of the loopback addresses, one or both; the control side listens there, not the data plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A local port whose connections go to one service or address."""

    listen: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaSettings:
    """The built-in certificate authority."""

    directory: Path | None
    """Where its root is kept; None: nowhere, each process makes one for itself and nobody else believes it."""
    leaf_lifetime: float = 86400.0
    trust_domain: str = spelling.DEFAULT_TRUST_DOMAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioCaSettings:
    """A certificate authority that is asked over gRPC, such as istiod."""

    endpoint: Endpoint
    leaf_lifetime: float = 86400.0
    """What is asked for; the authority decides."""
    impersonates: bool = False
    """Ask for the workloads of a node in their names; otherwise for whom the token names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsNode:
    """Who we are to the control plane (spec/control.md §4.4)."""

    pod: str | None = None
    namespace: str | None = None
    instance_ip: str = "1.1.1.1"
    name: str | None = None
    """Of the machine."""
    metadata: tuple[tuple[str, str], ...] = ()
    json_metadata: tuple[tuple[str, Json], ...] = ()
    """Wins over `metadata`, as that wins over the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsSettings:
    """A control plane that delivers the mesh over delta ADS, such as istiod."""

    endpoint: Endpoint
    node: XdsNode
    on_demand: bool = False
    """Workloads and services come when a connection needs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog:
    """One line for each connection."""

    format: str = "plain"
    path: Path | None = None
    """None is standard output."""
    template: str | None = None
    """`envoy`: access lines, and no others, as Envoy's under Istio."""

    def in_template(self, template: str | None) -> Self:
        """With another template, if one is given: who asks for one wants lines."""
        if template is None:
            return self
        style = "plain" if self.format == "off" else self.format
        return replace(self, template=template, format=style)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """A node, whole. Durations are seconds."""

    workload: WorkloadName
    ca: CaSettings | IstioCaSettings
    listen: Listen = field(default_factory=Listen)
    forwards: tuple[Forward, ...] = ()
    hbone_port: int = 15008
    """The port that is dialled at peers."""
    network: str = ""
    cluster_id: str = "Kubernetes"
    crl: Path | None = None
    """A file of revoked certificates, read again when it changes."""
    mesh: Path | None = None
    """Where workloads, services and policies are, if not in the node file."""
    xds: XdsSettings | None = None
    """Who delivers the mesh, or more of it; nothing is served before that came once."""
    drain: float = 5.0
    access_log: AccessLog = field(default_factory=AccessLog)
    log_level: str = "info"
    workers: int | None = None
    """None leaves the number to the data plane."""
    packet_mark: int | None = None
    original_source: bool | None = None
    splice: bool = True
    """Let the kernel move the bytes of plain connections; off, they are copied."""
    first_flight: bool = True
    """An application's first bytes go right behind the request for its tunnel, without waiting for the answer."""
    response_baggage: bool = True
    """Say who our workload is in answers, and label connections with what requests say of themselves."""
    localhost_app_tunnel: bool = True
    """Deliver to applications that take PROXY headers on the loopback address."""
    tag: str | None = None
    """What `istio_build` shows; None: the version of this program."""
    authz_info_logging: bool = False
    """Tell what policies say of each connection at INFO, not at DEBUG."""
    operator_tunnels: bool = False
    """Let tunnels lead to the ports for metrics and readiness."""
    ipv6: bool = True
    """Whether names may be resolved to IPv6 addresses."""
    pool: tuple[tuple[str, Json], ...] = ()
    """`maxStreams`, `idle`: what is absent has the data plane's default."""
    deadlines: tuple[tuple[str, Json], ...] = ()
    http2: tuple[tuple[str, Json], ...] = ()
    tls: tuple[tuple[str, Json], ...] = ()
    """`groups`: how keys are agreed on. `records`, `aead`, `keyUpdateAfter`: how records are made after that."""
    keepalive: tuple[tuple[str, Json], ...] = ()
    resolver: tuple[tuple[str, Json], ...] = ()
    """`config`, `servers`: who resolves the names of workloads that have no address."""

    def to_native(self, service_account: str) -> bytes:
        """The settings as the data plane takes them: JSON, in which unknown fields are an error."""
        settings: dict[str, object] = {
            "workload": {
                "name": self.workload.name,
                "namespace": self.workload.namespace,
                "serviceAccount": service_account,
            },
            "network": self.network,
            "clusterId": self.cluster_id,
            "hbonePort": self.hbone_port,
            "listeners": {
                "outbound": self.listen.outbound,
                "inbound": self.listen.inbound,
                "inboundPlaintext": self.listen.inbound_plaintext,
                "socks5": self.listen.socks5,
                "forwards": [{"listen": f.listen, "target": f.to} for f in self.forwards],
                "metrics": self.listen.metrics,
                "readiness": self.listen.readiness,
            },
            "packetMark": self.packet_mark,
            "originalSource": self.original_source,
            "splice": self.splice,
            "firstFlight": self.first_flight,
            "responseBaggage": self.response_baggage,
            "localhostAppTunnel": self.localhost_app_tunnel,
            "tag": self.tag,
            "authzInfoLogging": self.authz_info_logging,
            "operatorTunnels": self.operator_tunnels,
            "ipv6": self.ipv6,
            "accessLog": {
                "format": self.access_log.format,
                "path": str(self.access_log.path) if self.access_log.path else None,
                "template": self.access_log.template,
            },
            "logLevel": self.log_level,
        }
        if self.workers is not None:
            settings["workers"] = self.workers
        if self.xds is not None and self.xds.on_demand:
            settings["onDemand"] = True
        for name, group in (
            ("pool", self.pool),
            ("deadlines", self.deadlines),
            ("http2", self.http2),
            ("tls", self.tls),
            ("keepalive", self.keepalive),
            ("resolver", self.resolver),
        ):
            if group:
                settings[name] = dict(group)
        return json.dumps(settings, separators=(",", ":")).encode()


def read_node(node: Node, report: Report, *, base: Path) -> NodeSettings | None:
    """Reads the `node:` section; None after mistakes, which are in the report. Paths are relative to `base`."""
    before = len(report.problems)
    value: Any = _NODE(node, "node", report)
    if len(report.problems) > before:
        return None
    _no_address_twice(value, node, report)
    if len(report.problems) > before:
        return None
    # The table has checked every type, so that plain look-ups are safe from here on.
    namespace, _, name = value["workload"].partition("/")
    log, ca, mesh = value.get("accessLog", {}), value["ca"], value.get("mesh")
    crl = value.get("crl")
    optional = {
        attribute: value[key]
        for key, attribute in (
            ("hbonePort", "hbone_port"),
            ("network", "network"),
            ("clusterId", "cluster_id"),
            ("drain", "drain"),
            ("logLevel", "log_level"),
            ("workers", "workers"),
            ("packetMark", "packet_mark"),
            ("originalSource", "original_source"),
            ("splice", "splice"),
            ("firstFlight", "first_flight"),
            ("responseBaggage", "response_baggage"),
            ("localhostAppTunnel", "localhost_app_tunnel"),
            ("authzInfoLogging", "authz_info_logging"),
            ("operatorTunnels", "operator_tunnels"),
            ("ipv6", "ipv6"),
        )
        if key in value
    }
    ca_optional = {
        attribute: ca[key]
        for key, attribute in (("leafLifetime", "leaf_lifetime"), ("trustDomain", "trust_domain"))
        if key in ca
    }
    return NodeSettings(
        workload=WorkloadName(namespace=namespace, name=name),
        ca=CaSettings(directory=base / ca["directory"], **ca_optional),
        listen=_listen(value.get("listen", {})),
        forwards=tuple(Forward(listen=f["listen"], to=f["to"]) for f in value.get("forwards", ())),
        crl=base / crl if crl else None,
        mesh=base / mesh if mesh else None,
        access_log=AccessLog(
            format=log.get("format", "plain"),
            path=base / log["path"] if log.get("path") else None,
            template=log.get("template"),
        ),
        pool=tuple(value.get("pool", {}).items()),
        deadlines=tuple(value.get("deadlines", {}).items()),
        http2=tuple(value.get("http2", {}).items()),
        tls=tuple(value.get("tls", {}).items()),
        resolver=_resolver(value.get("resolver", {}), base),
        **optional,
    )


def _resolver(value: dict[str, Any], base: Path) -> tuple[tuple[str, Json], ...]:
    """As it stands there, but for the file, which is relative to `base`."""
    return tuple((key, str(base / it) if key == "config" else it) for key, it in value.items())


def _listen(value: dict[str, str]) -> Listen:
    admin = tuple(where for name, where in value.items() if name == ADMIN)
    of_data_plane = {_LISTENERS[name]: where for name, where in value.items() if name != ADMIN}
    return Listen(**of_data_plane, admin=admin)


def _no_address_twice(value: dict[str, Any], node: Node, report: Report) -> None:
    """Two listeners on one address: the second could never open, whatever the system says about it."""
    listen = [(f"listen.{name}", address) for name, address in value.get("listen", {}).items()]
    listen += [
        (f"forwards[{i}].listen", f["listen"]) for i, f in enumerate(value.get("forwards", ()))
    ]
    seen: dict[str, str] = {}
    for where, address in listen:
        if address in seen and not address.endswith(":0"):
            report.add(
                node, f"node.{where}", f"the same address as {seen[address]}: {shown(address)}"
            )
        seen.setdefault(address, where)


def _duration(low: float, high: float) -> Check:
    """A duration within bounds, as seconds."""

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        if isinstance(node, Scalar) and node.text.isdecimal() and not node.quoted:
            hint = f"; with its unit, {node.text[:20]}s"
            return report.add(node, path, f"not a duration: {node.text[:80]}{hint}")
        value = text(node, path, report)
        if not isinstance(value, str):
            return BAD
        try:
            seconds = spelling.duration(value)
        except ValueError:
            return report.add(node, path, f'not a duration such as "5s" or "1h30m": {shown(value)}')
        if not low <= seconds <= high:
            return report.add(node, path, f"not between {low:g} s and {high:g} s: {shown(value)}")
        return seconds

    return check


def _is_workload(value: str) -> bool:
    namespace, _, name = value.partition("/")
    return spelling.is_segment(namespace) and spelling.is_segment(name)


_address = spelled(spelling.is_socket_address, "an address with a port, such as 127.0.0.1:15001")
# Whoever reaches it may end the proxy and read what it knows (spec/reliability.md T33).
_loopback = spelled(
    spelling.is_loopback_socket_address, "a loopback address with a port, such as 127.0.0.1:15000"
)
_path = spelled(lambda value: bool(value) and "\0" not in value, "a path")
_count = integer(1, 2**31 - 1, "a whole number")

# A deadline is never endless and never so short that no peer could meet it.
_deadline = _duration(0.01, 3600.0)

# Of access lines; rust/proxy/src/telemetry/access_log/ has one for each.
TEMPLATES = ("envoy",)

_DEADLINES = (
    "handshake",
    "preface",
    "dial",
    "connect",
    "resolve",
    "socks",
    "headers",
    "credential",
    "workload",
    "pingInterval",
    "pingTimeout",
)

ADMIN = "admin"
# By their names in the document.
_LISTENERS = {
    "outbound": "outbound",
    "inbound": "inbound",
    "inboundPlaintext": "inbound_plaintext",
    "socks5": "socks5",
    "metrics": "metrics",
    "readiness": "readiness",
}

_NODE = struct(
    Field("workload", spelled(_is_workload, "namespace/name"), required=True),
    Field(
        "listen",
        struct(*(Field(name, _address) for name in _LISTENERS), Field(ADMIN, _loopback)),
    ),
    Field(
        "forwards",
        list_of(
            struct(
                Field("listen", _address, required=True),
                Field("to", spelled(spelling.is_target, "host:port or ip:port"), required=True),
            )
        ),
    ),
    Field("hbonePort", integer(1, 65535, "a port number")),
    Field("network", text),
    Field("clusterId", text),
    Field(
        "ca",
        struct(
            Field("directory", _path, required=True),
            # Two seconds: below that a certificate ends before its renewal can be asked for and answered.
            # A year: longer-lived leaves defeat the rotation that the rest of this is about.
            Field("leafLifetime", _duration(2.0, 366 * 86400.0)),
            Field(
                "trustDomain",
                spelled(spelling.is_trust_domain, f"a trust domain ({spelling.TRUST_DOMAIN_RULE})"),
            ),
        ),
        required=True,
    ),
    Field("crl", _path),
    Field("mesh", _path),
    Field("drain", _duration(0.0, 3600.0)),
    Field(
        "accessLog",
        struct(
            Field("format", one_of("plain", "json", "off")),
            Field("path", _path),
            Field("template", one_of(*TEMPLATES)),
        ),
    ),
    Field("logLevel", one_of("trace", "debug", "info", "warn", "error")),
    # 256: no machine that we know has more cores than that to give to a proxy.
    Field("workers", integer(1, 256, "a number of workers")),
    Field("packetMark", integer(0, 2**32 - 1, "a packet mark")),
    Field("originalSource", boolean),
    Field("splice", boolean),
    Field("firstFlight", boolean),
    Field("responseBaggage", boolean),
    Field("localhostAppTunnel", boolean),
    Field("authzInfoLogging", boolean),
    Field("operatorTunnels", boolean),
    Field("ipv6", boolean),
    Field("pool", struct(Field("maxStreams", _count), Field("idle", _duration(1.0, 86400.0)))),
    Field("deadlines", struct(*(Field(name, _deadline) for name in _DEADLINES))),
    Field(
        "http2",
        struct(
            # RFC 9113 §6.9.1 and §6.5.2: the largest window and the bounds of a frame.
            Field("streamWindow", integer(65535, 2**31 - 1, "a window")),
            Field("streamWindowMax", integer(65535, 2**31 - 1, "a window")),
            Field("connectionWindow", integer(65535, 2**31 - 1, "a window")),
            Field("frameSize", integer(16384, 2**24 - 1, "a frame size")),
        ),
    ),
    Field(
        "tls",
        struct(
            # How keys are agreed on: by every group there is, or by X25519MLKEM768 alone.
            Field("groups", one_of("all", "pqc")),
            # Our own records, or the TLS library's to fall back on.
            Field("records", one_of("in_place", "rustls")),
            # Whose AES-GCM seals our records: `aws-lc` is the one to pin where FIPS is asked for.
            Field("aead", one_of("auto", "aws-lc", "ring")),
            # Bytes. Four full records: with fewer on each key, making keys costs more than using them. 1 TiB: there
            # the limit of the cipher is near, and holds anyway.
            Field("keyUpdateAfter", integer(64 * 1024, 2**40, "a number of bytes")),
        ),
    ),
    # A file in the form of resolv.conf(5), and name servers to ask instead of its own.
    Field("resolver", struct(Field("config", _path), Field("servers", list_of(_address)))),
)
