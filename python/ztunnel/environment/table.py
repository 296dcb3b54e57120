"""Upstream's environment as a table: every variable with its kind, default and meaning (spec/control.md §2.2).

The one place that names them: `reading.py` reads by these rows, `unbuilt.py` goes by their status, and
`docs/reference/environment.md` is made of them (`python -m tools.environment_reference`).
"""

from __future__ import annotations

from typing import Any

from ztunnel.environment import kinds
from ztunnel.environment.config import Loopback
from ztunnel.environment.rows import duration, flag, maybe, switch, text, whole
from ztunnel.environment.variables import Status, Variable

# The longest that anything is told to take: beyond it a typing mistake is likelier than a wish.
YEAR = 366 * 86400.0
CA_PORT = 15012
DEFAULT_ROOTS = "./var/run/secrets/istio/root-cert.pem"
DEFAULT_TOKEN = "./var/run/secrets/tokens/istio-token"  # noqa: S105 - where it is, not what it is
DEFAULT_INPOD_SOCKET = "/var/run/ztunnel/ztunnel.sock"


# What to run

ENABLE_PROXY = flag(
    "ENABLE_PROXY",
    True,
    "Run the HBONE proxy.",
    status=Status.REFUSED,
    about="`false` leaves nothing to run, as there is no DNS proxy yet",
)
PROXY_MODE = Variable(
    name="PROXY_MODE",
    kind=kinds.choice("shared", "dedicated"),
    default="shared",
    shown="`shared`",
    meaning="A node's proxy for all its pods (`shared`), or the proxy of one workload (`dedicated`).",
    status=Status.REFUSED,
    about="`shared` is not built yet",
)
PROXY_WORKLOAD_INFO = maybe(
    "PROXY_WORKLOAD_INFO",
    kinds.WORKLOAD,
    "The workload to stand for; needed in dedicated mode.",
)
PROXY_CONFIG = maybe(
    "PROXY_CONFIG",
    kinds.TEXT,
    "A ProxyConfig in YAML or JSON: `discoveryAddress`, `proxyAdminPort`, `statsPort`, `concurrency`, "
    "`proxyMetadata`. Goes over `defaultConfig` of `./etc/istio/config/mesh`, field by field, metadata key "
    "by key. Empty is none.",
)
INPOD_ENABLED = maybe(
    "INPOD_ENABLED",
    kinds.TEXT,
    "Set by the Helm chart, read by nobody any more.",
    status=Status.ACCEPTED,
)

# Workers and the end

ZTUNNEL_WORKER_THREADS = maybe(
    "ZTUNNEL_WORKER_THREADS",
    kinds.THREADS,
    "Workers: a number, `0` for one per core, `50%` of the cores. Wins over all that follows.",
    "a quarter of the cores, 2 at least",
)
ZTUNNEL_CPU_LIMIT = maybe(
    "ZTUNNEL_CPU_LIMIT", kinds.integer(1, 1 << 16), "Cores to count with instead of the machine's."
)
ZTUNNEL_RESOURCE_CPU_LIMIT = maybe(
    "ZTUNNEL_RESOURCE_CPU_LIMIT",
    kinds.QUANTITY,
    "The container's CPU limit: as many cores, and as many workers, rounded up.",
)
ZTUNNEL_RESOURCE_CPU_REQUEST = maybe(
    "ZTUNNEL_RESOURCE_CPU_REQUEST", kinds.QUANTITY, "The container's CPU request: at least so many."
)
TERMINATION_GRACE_PERIOD_SECONDS = maybe(
    "TERMINATION_GRACE_PERIOD_SECONDS",
    kinds.integer(0, int(YEAR)),
    "How long Kubernetes waits before it kills: connections may go on for 5 s less, 1 s less if that is "
    "10 s or shorter, 1 s at least.",
)
CONNECTION_TERMINATION_DEADLINE = maybe(
    "CONNECTION_TERMINATION_DEADLINE",
    kinds.seconds(0, YEAR),
    "How long connections may go on after a signal; wins over the grace period.",
    "5s",
)

# Where we are

NODE_NAME = maybe("NODE_NAME", kinds.TEXT, "The machine. Our own workload must be on it.")
NETWORK = text("NETWORK", "", "The network of this node, in a mesh of several.")
CLUSTER_ID = text("CLUSTER_ID", "Kubernetes", "The cluster; `ISTIO_META_CLUSTER_ID` wins over it.")
CLUSTER_DOMAIN = text(
    "CLUSTER_DOMAIN",
    "cluster.local",
    "The suffix of names that the DNS proxy answers.",
    status=Status.UNBUILT,
    about="no DNS proxy yet",
)
POD_NAME = maybe(
    "POD_NAME",
    kinds.TEXT,
    "Of ztunnel's own pod, for the control plane.",
)
POD_NAMESPACE = maybe(
    "POD_NAMESPACE",
    kinds.TEXT,
    "Of ztunnel's own pod, for the control plane.",
)
SERVICE_ACCOUNT = maybe(
    "SERVICE_ACCOUNT",
    kinds.TEXT,
    "Of ztunnel's own pod. With name and namespace: its own identity, of use in shared mode.",
    status=Status.ACCEPTED,
)
TRUST_DOMAIN = text(
    "TRUST_DOMAIN",
    "cluster.local",
    "Of ztunnel's own identity, and of `FAKE_CA` where no file says ours.",
    status=Status.ACCEPTED,
)
INSTANCE_IP = text(
    "INSTANCE_IP",
    "1.1.1.1",
    "Of ztunnel's own pod, for the control plane.",
)
KUBERNETES_SERVICE_HOST = maybe(
    "KUBERNETES_SERVICE_HOST",
    kinds.TEXT,
    "Set in every pod: the control plane is then at `istiod.istio-system.svc:15012`, else at `localhost:15012`.",
)

# The mesh

XDS_ADDRESS = maybe(
    "XDS_ADDRESS",
    kinds.ADDRESS,
    "Where the mesh is learned; empty is nowhere.",
    "ProxyConfig's `discoveryAddress`, else istiod's",
)
XDS_ROOT_CA = maybe(
    "XDS_ROOT_CA",
    kinds.TEXT,
    "Whom to believe there: a file, which is read for each connection, certificates in PEM, or `SYSTEM`.",
    f"`{DEFAULT_ROOTS}`",
)
ALT_XDS_HOSTNAME = maybe(
    "ALT_XDS_HOSTNAME",
    kinds.TEXT,
    "A second name that its certificate may have.",
)
XDS_ON_DEMAND = flag(
    "XDS_ON_DEMAND",
    False,
    "Ask for workloads and services when they are needed. Not together with the DNS proxy.",
)
LOCAL_XDS_PATH = maybe(
    "LOCAL_XDS_PATH", kinds.TEXT, "A file with the mesh; read again when it changes."
)
LOCAL_XDS = maybe("LOCAL_XDS", kinds.TEXT, "The mesh itself. Not together with `LOCAL_XDS_PATH`.")

# Certificates

CA_ADDRESS = maybe(
    "CA_ADDRESS", kinds.ADDRESS, "Who signs certificates (`istio.v1.auth`).", "istiod's"
)
CA_ROOT_CA = maybe(
    "CA_ROOT_CA",
    kinds.TEXT,
    "Whom to believe there: a file, which is read again, certificates in PEM, or `SYSTEM`.",
    f"`{DEFAULT_ROOTS}`",
)
ALT_CA_HOSTNAME = maybe(
    "ALT_CA_HOSTNAME", kinds.TEXT, "A second name that its certificate may have."
)
AUTH_TOKEN = maybe(
    "AUTH_TOKEN",
    kinds.TEXT,
    "What we show there and where the mesh is learned: a file, which is read for each request, or the token itself.",
    f"`{DEFAULT_TOKEN}`, if it is there",
)
FAKE_CA = flag(
    "FAKE_CA",
    False,
    "Sign with a root that this process makes for itself, without any network. No other process trusts it: "
    "for trying things out.",
)
SECRET_TTL = duration(
    "SECRET_TTL",
    1,
    100 * YEAR,
    86400.0,
    "24h",
    "How long certificates are asked to count; whoever signs decides.",
)
CRL_PATH = text(
    "CRL_PATH",
    "",
    "A file of revoked certificates, which is read again when it changes; empty is none.",
)
TLS12_ENABLED = switch(
    "TLS12_ENABLED",
    "Allow TLS 1.2 as well.",
    status=Status.UNBUILT,
    about="TLS 1.3 only, as our records are made in place and those of 1.2 have another shape",
)
COMPLIANCE_POLICY = Variable(
    name="COMPLIANCE_POLICY",
    kind=kinds.choice("", "pqc", allowed="pqc or empty"),
    default="",
    shown="empty",
    meaning="`pqc`: keys are agreed on with X25519MLKEM768 only; whoever cannot do that is refused.",
)

# The data plane

HTTP2_STREAM_WINDOW_SIZE = whole(
    "HTTP2_STREAM_WINDOW_SIZE",
    1,
    2**31 - 1,
    4 * 1024 * 1024,
    "Bytes that a stream may be ahead; it begins with 256 KiB and earns the rest.",
)
HTTP2_CONNECTION_WINDOW_SIZE = whole(
    "HTTP2_CONNECTION_WINDOW_SIZE",
    1,
    2**31 - 1,
    16 * 1024 * 1024,
    "Bytes that all streams of a tunnel may be ahead together.",
)
# RFC 9113 §6.5.2
HTTP2_FRAME_SIZE = whole(
    "HTTP2_FRAME_SIZE", 16384, 2**24 - 1, 1024 * 1024, "The largest frame to receive, bytes."
)
POOL_MAX_STREAMS_PER_CONNECTION = whole(
    "POOL_MAX_STREAMS_PER_CONNECTION", 1, 65535, 100, "Connections in one tunnel."
)
POOL_UNUSED_RELEASE_TIMEOUT = duration(
    "POOL_UNUSED_RELEASE_TIMEOUT", 1e-3, YEAR, 300.0, "5m", "How long an unused tunnel is kept."
)
KEEPALIVE_ENABLED = flag("KEEPALIVE_ENABLED", True, "TCP keepalive.")
KEEPALIVE_TIME = duration("KEEPALIVE_TIME", 1, YEAR, 180.0, "180s", "Before its first probe.")
KEEPALIVE_INTERVAL = duration("KEEPALIVE_INTERVAL", 1, YEAR, 180.0, "180s", "Between its probes.")
KEEPALIVE_RETRIES = whole("KEEPALIVE_RETRIES", 1, 2**31 - 1, 9, "Probes before the end.")
USER_TIMEOUT_ENABLED = flag(
    "USER_TIMEOUT_ENABLED",
    False,
    "End a connection whose data nobody acknowledges for as long as keepalive would wait.",
)
ENABLE_ORIG_SRC = maybe(
    "ENABLE_ORIG_SRC",
    kinds.BOOLEAN,
    "Show applications the client's own address: always (`true`), never (`false`), where the kernel lets us.",
    "where possible",
)
PACKET_MARK = maybe(
    "PACKET_MARK",
    kinds.integer(0, 2**32 - 1),
    "SO_MARK of what we dial, so that capture rules leave it alone.",
    "none in dedicated mode, 1337 in shared mode",
)
IPV6_ENABLED = flag("IPV6_ENABLED", True, "Listen on IPv6 as well, and resolve names to it.")
UNSTABLE_ENABLE_SOCKS5 = flag("UNSTABLE_ENABLE_SOCKS5", False, "SOCKS5 on 127.0.0.1:15080.")
LOCALHOST_APP_TUNNEL = flag(
    "LOCALHOST_APP_TUNNEL",
    True,
    "Deliver to applications that take PROXY headers on the loopback address.",
)
ENABLE_RESPONSE_BAGGAGE = flag(
    "ENABLE_RESPONSE_BAGGAGE",
    True,
    "Say who our workload is in answers, and label connections with what requests say of themselves.",
)
PREFERED_SERVICE_NAMESPACE = maybe(
    "PREFERED_SERVICE_NAMESPACE",
    kinds.TEXT,
    "Whose service the DNS proxy prefers of several with one name.",
    status=Status.UNBUILT,
    about="no DNS proxy yet",
)
INPOD_UDS = text(
    "INPOD_UDS",
    DEFAULT_INPOD_SOCKET,
    "The socket on which a node learns of its pods.",
    status=Status.UNBUILT,
    about="of use in shared mode",
)
INPOD_PORT_REUSE = flag(
    "INPOD_PORT_REUSE",
    True,
    "Let two node proxies listen in one pod.",
    status=Status.UNBUILT,
    about="of use in shared mode",
)

# Logs

RUST_LOG = Variable(
    name="RUST_LOG",
    kind=kinds.FILTER,
    default="",
    shown="`info`",
    meaning="What is logged: a level, and `target=level` for parts, such as `info,access=off`.",
)
LOG_FORMAT = text("LOG_FORMAT", "plain", "`json` for one object a line; anything else is text.")
AUTHZ_POLICY_INFO_LOGGING = switch(
    "AUTHZ_POLICY_INFO_LOGGING",
    "Log each decision of policy at info, not debug.",
)
RUST_BACKTRACE = maybe(
    "RUST_BACKTRACE",
    kinds.TEXT,
    "Of the Rust half, if it ever panics; read by Rust's own library.",
    status=Status.ACCEPTED,
)

# Special ones among the metadata

META_CLUSTER_ID = maybe("ISTIO_META_CLUSTER_ID", kinds.TEXT, "The cluster; wins over `CLUSTER_ID`.")
META_DNS_CAPTURE = maybe(
    "ISTIO_META_DNS_CAPTURE",
    kinds.TEXT,
    "Whether to run the DNS proxy: `true` in any case of letters, or anything else for no.",
    "the DNS proxy runs",
    status=Status.UNBUILT,
    about="no DNS proxy yet; `false` says that none is expected",
    idle=("false",),
)
META_DNS_PROXY_ADDR = maybe(
    "ISTIO_META_DNS_PROXY_ADDR",
    kinds.DNS_ADDRESS,
    "Where the DNS proxy listens.",
    "`localhost:15053`",
    status=Status.UNBUILT,
    about="no DNS proxy yet",
)
DNS_DEFAULT = Loopback(port=15053)
META_ISTIO_VERSION = maybe(
    "ISTIO_META_ISTIO_VERSION",
    kinds.TEXT,
    "Istio's version, for `ztunnel version`, metrics and the control plane; set by the image.",
    "`unknown`",
)

GROUPS: tuple[tuple[str, tuple[Variable[Any], ...]], ...] = (
    (
        "What to run",
        (ENABLE_PROXY, PROXY_MODE, PROXY_WORKLOAD_INFO, PROXY_CONFIG, INPOD_ENABLED),
    ),
    (
        "Workers and the end",
        (
            ZTUNNEL_WORKER_THREADS,
            ZTUNNEL_CPU_LIMIT,
            ZTUNNEL_RESOURCE_CPU_LIMIT,
            ZTUNNEL_RESOURCE_CPU_REQUEST,
            TERMINATION_GRACE_PERIOD_SECONDS,
            CONNECTION_TERMINATION_DEADLINE,
        ),
    ),
    (
        "Where we are",
        (
            NODE_NAME,
            NETWORK,
            CLUSTER_ID,
            META_CLUSTER_ID,
            CLUSTER_DOMAIN,
            POD_NAME,
            POD_NAMESPACE,
            SERVICE_ACCOUNT,
            TRUST_DOMAIN,
            INSTANCE_IP,
            KUBERNETES_SERVICE_HOST,
            META_ISTIO_VERSION,
        ),
    ),
    (
        "The mesh",
        (
            LOCAL_XDS_PATH,
            LOCAL_XDS,
            XDS_ADDRESS,
            XDS_ROOT_CA,
            ALT_XDS_HOSTNAME,
            XDS_ON_DEMAND,
            META_DNS_CAPTURE,
            META_DNS_PROXY_ADDR,
            PREFERED_SERVICE_NAMESPACE,
        ),
    ),
    (
        "Certificates and TLS",
        (
            CA_ADDRESS,
            CA_ROOT_CA,
            ALT_CA_HOSTNAME,
            AUTH_TOKEN,
            FAKE_CA,
            SECRET_TTL,
            CRL_PATH,
            TLS12_ENABLED,
            COMPLIANCE_POLICY,
        ),
    ),
    (
        "Connections",
        (
            HTTP2_STREAM_WINDOW_SIZE,
            HTTP2_CONNECTION_WINDOW_SIZE,
            HTTP2_FRAME_SIZE,
            POOL_MAX_STREAMS_PER_CONNECTION,
            POOL_UNUSED_RELEASE_TIMEOUT,
            KEEPALIVE_ENABLED,
            KEEPALIVE_TIME,
            KEEPALIVE_INTERVAL,
            KEEPALIVE_RETRIES,
            USER_TIMEOUT_ENABLED,
            ENABLE_ORIG_SRC,
            PACKET_MARK,
            IPV6_ENABLED,
            UNSTABLE_ENABLE_SOCKS5,
            LOCALHOST_APP_TUNNEL,
            ENABLE_RESPONSE_BAGGAGE,
            INPOD_UDS,
            INPOD_PORT_REUSE,
        ),
    ),
    ("Logs", (RUST_LOG, LOG_FORMAT, AUTHZ_POLICY_INFO_LOGGING, RUST_BACKTRACE)),
)
"""Every variable, in the order of the reference."""

CA_HEADERS = "CA_HEADER_"
XDS_HEADERS = "XDS_HEADER_"
METADATA = "ISTIO_META_"
JSON_METADATA = "ISTIO_METAJSON_"

PREFIXES: tuple[tuple[str, str, Status, str], ...] = (
    (
        CA_HEADERS,
        "`CA_HEADER_FOO=bar` sends the header `foo: bar` with each request for a certificate. Never shown.",
        Status.BUILT,
        "",
    ),
    (
        XDS_HEADERS,
        "The same for the delivery of the mesh. Never shown.",
        Status.BUILT,
        "",
    ),
    (
        METADATA,
        "`ISTIO_META_FOO=bar` is `FOO: bar` in the metadata of our node, and wins over ProxyConfig's.",
        Status.BUILT,
        "",
    ),
    (
        JSON_METADATA,
        "The same with a value in JSON; what is none is logged and left out.",
        Status.BUILT,
        "",
    ),
)
"""Names that begin so: prefix, meaning, status, and what about it."""
