"""An environment and a machine in, upstream's whole configuration out (spec/control.md §2).

Pure but for one thing: whether the files that roots and tokens may be are there. Every mistake is noted in
the `Variables`; what is given after one is only good for finding the next.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.environment import metadata, table
from ztunnel.environment.config import (
    Certificates,
    Config,
    Http2,
    Mesh,
    Place,
    Ports,
    Sockets,
    Tls,
    WorkloadInfo,
)
from ztunnel.environment.control_plane import authority, delivery
from ztunnel.environment.proxyconfig import proxy_config
from ztunnel.environment.workers import workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ztunnel.environment.config import Machine
    from ztunnel.environment.proxyconfig import ProxyConfig
    from ztunnel.environment.variables import Variables

ADMIN_PORT = 15000
STATS_PORT = 15020
SHARED_MARK = 1337


def read_config(variables: Variables, machine: Machine, arguments: Sequence[str] = ()) -> Config:
    """Reads every variable there is."""
    configured = proxy_config(variables, machine.mesh_config)
    known = metadata.texts(variables, configured.metadata)
    mode = variables.read(table.PROXY_MODE)
    workload = variables.read(table.PROXY_WORKLOAD_INFO)
    if mode == "dedicated" and not variables.is_set(table.PROXY_WORKLOAD_INFO):
        variables.missing(
            table.PROXY_WORKLOAD_INFO.name, f"must be {table.PROXY_WORKLOAD_INFO.kind.allowed}"
        )
    for accepted in (table.INPOD_ENABLED, table.RUST_BACKTRACE, table.META_ISTIO_VERSION):
        variables.read(accepted)
    return Config(
        proxy=variables.read(table.ENABLE_PROXY),
        mode=mode,
        workload=workload,
        place=_place(variables, known),
        ports=_ports(variables, configured, known, machine),
        http2=_http2(variables),
        sockets=_sockets(variables, mode),
        certificates=_certificates(variables),
        mesh=_mesh(variables, configured, known),
        tls=Tls(
            policy=variables.read(table.COMPLIANCE_POLICY),
            tls12=variables.read(table.TLS12_ENABLED),
        ),
        workers=workers(variables, machine.cores, configured.concurrency),
        drain=_drain(variables),
        log_format="json" if variables.read(table.LOG_FORMAT) == "json" else "plain",
        log_filter=variables.read(table.RUST_LOG) or "info",
        info_decisions=variables.read(table.AUTHZ_POLICY_INFO_LOGGING),
        app_tunnel_on_loopback=variables.read(table.LOCALHOST_APP_TUNNEL),
        baggage=variables.read(table.ENABLE_RESPONSE_BAGGAGE),
        inpod_socket=variables.read(table.INPOD_UDS),
        inpod_port_reuse=variables.read(table.INPOD_PORT_REUSE),
        # Bytes that are no UTF-8 could be written nowhere.
        arguments=" ".join(arguments).encode("utf-8", "replace").decode(),
        resolv_conf=machine.resolv_conf,
    )


def _place(variables: Variables, known: Mapping[str, str]) -> Place:
    of_pod = (table.POD_NAMESPACE, table.POD_NAME, table.SERVICE_ACCOUNT)
    namespace, name, account = (variables.read(one) for one in of_pod)
    own = None
    if namespace and name and account:
        own = WorkloadInfo(namespace=namespace, name=name, service_account=account)
    cluster, of_metadata = variables.read(table.CLUSTER_ID), variables.read(table.META_CLUSTER_ID)
    return Place(
        node=variables.read(table.NODE_NAME),
        network=variables.read(table.NETWORK),
        cluster_id=cluster if of_metadata is None else of_metadata,
        own=own,
        pod=name,
        pod_namespace=namespace,
        trust_domain=variables.read(table.TRUST_DOMAIN),
        instance_ip=variables.read(table.INSTANCE_IP),
        metadata=tuple(known.items()),
        json_metadata=metadata.typed(variables),
    )


def _ports(
    variables: Variables, configured: ProxyConfig, known: Mapping[str, str], machine: Machine
) -> Ports:
    ipv6 = variables.read(table.IPV6_ENABLED)
    return Ports(
        admin=ADMIN_PORT if configured.admin_port is None else configured.admin_port,
        stats=STATS_PORT if configured.stats_port is None else configured.stats_port,
        dns=metadata.dns_address(variables, known),
        socks5=variables.read(table.UNSTABLE_ENABLE_SOCKS5),
        ipv6=ipv6,
        loopback_ipv6=ipv6 and machine.loopback_ipv6,
    )


def _http2(variables: Variables) -> Http2:
    return Http2(
        stream_window=variables.read(table.HTTP2_STREAM_WINDOW_SIZE),
        connection_window=variables.read(table.HTTP2_CONNECTION_WINDOW_SIZE),
        frame_size=variables.read(table.HTTP2_FRAME_SIZE),
        max_streams=variables.read(table.POOL_MAX_STREAMS_PER_CONNECTION),
        idle=variables.read(table.POOL_UNUSED_RELEASE_TIMEOUT),
    )


def _sockets(variables: Variables, mode: str) -> Sockets:
    mark = variables.read(table.PACKET_MARK)
    return Sockets(
        keepalive=variables.read(table.KEEPALIVE_ENABLED),
        keepalive_time=variables.read(table.KEEPALIVE_TIME),
        keepalive_interval=variables.read(table.KEEPALIVE_INTERVAL),
        keepalive_retries=variables.read(table.KEEPALIVE_RETRIES),
        user_timeout=variables.read(table.USER_TIMEOUT_ENABLED),
        mark=SHARED_MARK if mark is None and mode == "shared" else mark,
        original_source=variables.read(table.ENABLE_ORIG_SRC),
    )


def _certificates(variables: Variables) -> Certificates:
    revoked = variables.read(table.CRL_PATH)
    return Certificates(
        server=authority(variables),
        fake=variables.read(table.FAKE_CA),
        lifetime=variables.read(table.SECRET_TTL),
        revoked=Path(revoked) if revoked else None,
    )


def _mesh(variables: Variables, configured: ProxyConfig, known: Mapping[str, str]) -> Mesh:
    dns_proxy = metadata.wants_dns_proxy(known)
    variables.values[table.META_DNS_CAPTURE.name] = "true" if dns_proxy else "false"
    on_demand = variables.read(table.XDS_ON_DEMAND)
    if on_demand and dns_proxy:
        reason = "not together with the DNS proxy; set ISTIO_META_DNS_CAPTURE=false as well"
        variables.mistake(table.XDS_ON_DEMAND.name, reason)
    if not variables.read(table.ENABLE_PROXY) and not dns_proxy:
        reason = "without the DNS proxy (ISTIO_META_DNS_CAPTURE) nothing is left to run"
        variables.mistake(table.ENABLE_PROXY.name, reason)
    return Mesh(
        server=delivery(variables, configured.discovery_address),
        on_demand=on_demand,
        local=_local(variables),
        preferred_namespace=variables.read(table.PREFERED_SERVICE_NAMESPACE),
        cluster_domain=variables.read(table.CLUSTER_DOMAIN),
        dns_proxy=dns_proxy,
    )


def _local(variables: Variables) -> Path | str | None:
    path, text = variables.read(table.LOCAL_XDS_PATH), variables.read(table.LOCAL_XDS)
    if path is not None and text is not None:
        reason = "LOCAL_XDS is set as well; remove one of the two"
        variables.mistake(table.LOCAL_XDS_PATH.name, reason)
    if path == "":
        variables.mistake(table.LOCAL_XDS_PATH.name, "must be a file with the mesh")
    return Path(path) if path else text


def _drain(variables: Variables) -> float:
    """How long connections may go on; a little less than Kubernetes waits before it kills."""
    grace = variables.read(table.TERMINATION_GRACE_PERIOD_SECONDS)
    deadline = variables.read(table.CONNECTION_TERMINATION_DEADLINE)
    if deadline is not None:
        return deadline
    return float(5 if grace is None else _less(grace))


def _less(grace: int) -> int:
    return grace - 5 if grace > 10 else max(grace - 1, 1)
