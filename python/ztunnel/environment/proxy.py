"""A dedicated proxy's whole environment, from variables to settings (control §2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.environment.control_plane import authority, cluster_id
from ztunnel.environment.unbuilt import not_built
from ztunnel.environment.variables import (
    BOOLEAN,
    TEXT,
    Kind,
    Variables,
    choice,
    integer,
    seconds,
)
from ztunnel.environment.workers import workers
from ztunnel.errors import EnvironmentUnusable
from ztunnel.settings import AccessLog, IstioCaSettings, Listen, NodeSettings, WorkloadName
from ztunnel.telemetry.log import levels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztunnel.document.checks import Json

MODE = "PROXY_MODE"
INFO = "PROXY_WORKLOAD_INFO"

HBONE_PORT = 15008
# The longest that anything is told to take: beyond it a typing mistake is likelier than a wish.
YEAR = 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """What the environment says."""

    node: NodeSettings
    service_account: str
    node_name: str | None
    """The machine; our own workload must be on it."""
    mesh: Path | str
    """The file that the mesh is in, or the mesh itself."""
    log_format: str
    not_built: tuple[str, ...]
    """Variables that were set and have no effect yet."""


def read_environment(environ: Mapping[str, str], *, cores: int) -> ProxySettings:
    """Reads it on a machine with so many cores; `EnvironmentUnusable` with every mistake."""
    variables = Variables(environ)
    _check_mode(variables)
    workload = variables.find(INFO, WORKLOAD)
    if workload is None and variables.get(INFO) is None:
        variables.missing(INFO, f"must be {WORKLOAD.allowed}")
    mesh = _mesh(variables)
    node = _node(variables, workload or ("", "", ""), cores)
    log_format = "json" if variables.get("LOG_FORMAT") == "json" else "plain"
    if variables.mistakes or node is None or workload is None:
        raise EnvironmentUnusable(variables.mistakes)
    return ProxySettings(
        node=node,
        service_account=workload[2],
        node_name=variables.get("NODE_NAME"),
        mesh=mesh,
        log_format=log_format,
        not_built=not_built(variables),
    )


def _check_mode(variables: Variables) -> None:
    """Only what this version can be: a dedicated proxy whose mesh is a file."""
    mode = variables.read(MODE, choice("shared", "dedicated"), "shared")
    if mode == "shared" and variables.get(MODE) in (None, "shared"):
        reason = "the shared mode of a node is not built yet; set PROXY_MODE=dedicated"
        (variables.missing if variables.get(MODE) is None else variables.mistake)(MODE, reason)
    if not variables.read("ENABLE_PROXY", BOOLEAN, True):
        variables.mistake("ENABLE_PROXY", "without the proxy nothing is left to run")
    if variables.read("FAKE_CA", BOOLEAN, False):
        hint = "set CA_ADDRESS, or run `ztunnel run` for the built-in one"
        variables.mistake("FAKE_CA", f"there is no fake authority; {hint}")
    if variables.get("XDS_ADDRESS") != "":
        # Going on would mean serving without the policies that the control plane has.
        reason = "the control plane's mesh is not built yet; set XDS_ADDRESS= and LOCAL_XDS_PATH"
        unset = variables.get("XDS_ADDRESS") is None
        (variables.missing if unset else variables.mistake)("XDS_ADDRESS", reason)


def _mesh(variables: Variables) -> Path | str:
    path, text = variables.get("LOCAL_XDS_PATH"), variables.get("LOCAL_XDS")
    if path is not None and text is not None:
        variables.mistake("LOCAL_XDS_PATH", "LOCAL_XDS is set as well; remove one of the two")
    if path is None and text is None:
        variables.missing("LOCAL_XDS_PATH", "must be a file with the mesh")
    if path == "":
        variables.mistake("LOCAL_XDS_PATH", "must be a file with the mesh")
    return Path(path) if path is not None else text or ""


def _node(variables: Variables, workload: tuple[str, str, str], cores: int) -> NodeSettings | None:
    """The node's own settings; None after a mistake, which is noted."""
    mark = variables.find("PACKET_MARK", integer(0, 2**32 - 1))
    endpoint = authority(variables, mark)
    lifetime = variables.read("SECRET_TTL", seconds(1, 100 * YEAR), 86400.0)
    listen = _listen(variables)
    log_level = variables.read("RUST_LOG", FILTER, "info") or "info"
    http2 = _http2(variables)
    settings = {
        "workers": workers(variables, cores),
        "packet_mark": mark,
        "original_source": variables.find("ENABLE_ORIG_SRC", BOOLEAN),
        "drain": _drain(variables),
        "pool": _pool(variables),
        "keepalive": _keepalive(variables),
    }
    if endpoint is None:
        return None
    log_format = "json" if variables.get("LOG_FORMAT") == "json" else "plain"
    return NodeSettings(
        workload=WorkloadName(namespace=workload[0], name=workload[1]),
        ca=IstioCaSettings(endpoint=endpoint, leaf_lifetime=lifetime),
        listen=listen,
        hbone_port=HBONE_PORT,
        network=variables.read("NETWORK", TEXT, ""),
        cluster_id=cluster_id(variables),
        access_log=AccessLog(format=log_format),
        log_level=log_level,
        http2=http2,
        **settings,  # type: ignore[arg-type]
    )


def _listen(variables: Variables) -> Listen:
    """Upstream's ports. The one place that names them."""
    wildcard = "[::]" if variables.read("IPV6_ENABLED", BOOLEAN, True) else "0.0.0.0"  # noqa: S104
    socks5 = variables.read("UNSTABLE_ENABLE_SOCKS5", BOOLEAN, False)
    return Listen(
        outbound=f"{wildcard}:15001",
        inbound=f"{wildcard}:{HBONE_PORT}",
        inbound_plaintext=f"{wildcard}:15006",
        socks5="127.0.0.1:15080" if socks5 else None,
        metrics=f"{wildcard}:15020",
        readiness=f"{wildcard}:15021",
    )


def _http2(variables: Variables) -> tuple[tuple[str, Json], ...]:
    """A stream begins with less than it is allowed, and earns the rest by draining."""
    window = integer(1, 2**31 - 1)
    stream = variables.read("HTTP2_STREAM_WINDOW_SIZE", window, 4 * 1024 * 1024)
    connection = variables.read("HTTP2_CONNECTION_WINDOW_SIZE", window, 16 * 1024 * 1024)
    # RFC 9113 §6.5.2
    frame = variables.read("HTTP2_FRAME_SIZE", integer(16384, 2**24 - 1), 1024 * 1024)
    # A stream never gets more than its connection.
    most = min(stream, connection)
    return (
        ("streamWindow", min(FIRST_WINDOW, most)),
        ("streamWindowMax", most),
        ("connectionWindow", connection),
        ("frameSize", frame),
    )


def _pool(variables: Variables) -> tuple[tuple[str, Json], ...]:
    return (
        ("maxStreams", variables.read("POOL_MAX_STREAMS_PER_CONNECTION", integer(1, 65535), 100)),
        ("idle", variables.read("POOL_UNUSED_RELEASE_TIMEOUT", seconds(1e-3, YEAR), 300.0)),
    )


def _keepalive(variables: Variables) -> tuple[tuple[str, Json], ...]:
    return (
        ("enabled", variables.read("KEEPALIVE_ENABLED", BOOLEAN, True)),
        ("time", variables.read("KEEPALIVE_TIME", seconds(1, YEAR), 180.0)),
        ("interval", variables.read("KEEPALIVE_INTERVAL", seconds(1, YEAR), 180.0)),
        ("retries", variables.read("KEEPALIVE_RETRIES", integer(1, 2**31 - 1), 9)),
    )


def _drain(variables: Variables) -> float:
    """How long connections may go on; a little less than Kubernetes waits before it kills."""
    grace = variables.find("TERMINATION_GRACE_PERIOD_SECONDS", integer(0, int(YEAR)))
    default = 5 if grace is None else _less(grace)
    return variables.read("CONNECTION_TERMINATION_DEADLINE", seconds(0, YEAR), float(default))


def _less(grace: int) -> int:
    return grace - 5 if grace > 10 else max(grace - 1, 1)


def _workload(text: str) -> tuple[str, str, str]:
    parts = text.split("/", 2)
    if len(parts) != 3 or not all(parts) or "/" in parts[2]:
        raise ValueError
    return parts[0], parts[1], parts[2]


def _filter(text: str) -> str:
    if text:
        levels_of(text)
    return text


WORKLOAD = Kind(_workload, "namespace/name/serviceaccount of the workload to stand for")
FILTER = Kind(_filter, "log levels")
# As the data plane's own default.
FIRST_WINDOW = 256 * 1024
