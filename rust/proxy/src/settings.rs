//! What each part needs to know, already parsed.
//!
//! Arrives as JSON from the side that reads files and environments; nothing here reads either. Unknown keys are
//! errors, so that a misspelt one cannot be silently ignored.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::sys;

/// The longest duration that is read: beyond it a typing mistake is likelier than a wish.
const MAX_SECONDS: f64 = 366.0 * 24.0 * 3600.0;

/// Four full records: with fewer on each key, making keys costs more than using them.
const MIN_KEY_UPDATE_AFTER: u64 = 64 * 1024;

/// Everything a data plane is told before it starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Worker threads; each owns its connections for life.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// The workload that this node stands for.
    pub workload: LocalWorkload,
    /// Our network's name; empty in a single-network mesh.
    #[serde(default)]
    pub network: String,
    /// Our cluster's name, as labels and baggage carry it.
    #[serde(default = "default_cluster")]
    pub cluster_id: String,
    /// The port on which peers accept HBONE.
    #[serde(default = "default_hbone_port")]
    pub hbone_port: u16,
    /// What to listen on.
    #[serde(default)]
    pub listeners: Listeners,
    /// HTTP/2 windows and frames.
    #[serde(default)]
    pub http2: Http2,
    /// The pool of outbound tunnels.
    #[serde(default)]
    pub pool: Pool,
    /// TLS: its groups and its records.
    #[serde(default)]
    pub tls: RecordSettings,
    /// How long each wait may take.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// TCP keepalive of dialled and accepted sockets.
    #[serde(default)]
    pub keepalive: Keepalive,
    /// SO_MARK of dialled sockets, so that capture rules leave them alone.
    #[serde(default)]
    pub packet_mark: Option<u32>,
    /// Keep the client's address toward the application: always, never, or where the kernel lets us.
    #[serde(default)]
    pub original_source: Option<bool>,
    /// Let the kernel move the bytes of plain connections where that is cheaper; off copies them.
    #[serde(default = "yes")]
    pub splice: bool,
    /// Send an application's first bytes right behind the CONNECT; off waits for the peer's answer.
    #[serde(default = "yes")]
    pub first_flight: bool,
    /// Say who our workload is in the answer to a request, and believe who a request says it is, for labels only.
    #[serde(default = "yes")]
    pub response_baggage: bool,
    /// Deliver to applications that take PROXY headers on the loopback address.
    #[serde(default = "yes")]
    pub localhost_app_tunnel: bool,
    /// Tell what policies say of each connection at INFO, not at DEBUG.
    #[serde(default)]
    pub authz_info_logging: bool,
    /// What `istio_build` shows as its tag; absent: the version of this program (spec/control.md §12).
    #[serde(default)]
    pub tag: Option<String>,
    /// Who resolves the names of workloads that have no address.
    #[serde(default)]
    pub resolver: Resolver,
    /// Let tunnels lead to our ports for metrics and readiness, as upstream does: a scraper of the mesh needs it. Off,
    /// they are ours alone (spec/reliability.md T21).
    #[serde(default)]
    pub operator_tunnels: bool,
    /// Learn workloads and services when a connection needs them; off, all of the mesh is pushed (spec/control.md §4.8).
    #[serde(default)]
    pub on_demand: bool,
    /// Whether names may be resolved to IPv6 addresses.
    #[serde(default = "yes")]
    pub ipv6: bool,
    /// One line per connection.
    #[serde(default)]
    pub access_log: AccessLog,
    /// Level filter of the operational log.
    #[serde(default = "default_log_level")]
    pub log_level: String,
}

/// The workload that a dedicated node stands for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalWorkload {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// Addresses to listen on; one that is absent is not opened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listeners {
    /// Captured traffic (15001).
    pub outbound: Option<SocketAddr>,
    /// HBONE from peers (15008).
    pub inbound: Option<SocketAddr>,
    /// Captured traffic that comes in without a tunnel (15006).
    pub inbound_plaintext: Option<SocketAddr>,
    /// SOCKS5 (15080).
    pub socks5: Option<SocketAddr>,
    /// Ports of our own that lead to a fixed target.
    pub forwards: Vec<Forward>,
    /// Prometheus exposition (15020).
    pub metrics: Option<SocketAddr>,
    /// Readiness (15021).
    pub readiness: Option<SocketAddr>,
}

/// A local port that leads to one target.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// `ip:port`, or `hostname:port` of a service.
    pub target: String,
}

/// HTTP/2 parameters (spec/dataplane.md §4).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http2 {
    /// What a peer may send on a new stream before we credit it, bytes.
    pub stream_window: u32,
    /// What a stream that drains well may earn, bytes.
    pub stream_window_max: u32,
    /// The same for the whole connection, bytes.
    pub connection_window: u32,
    /// Largest frame we accept, bytes.
    pub frame_size: u32,
}

/// The pool of outbound tunnels (spec/dataplane.md §5).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pool {
    /// Streams at once in one tunnel.
    pub max_streams: usize,
    /// How long a tunnel without streams is kept.
    #[serde(deserialize_with = "seconds")]
    pub idle: Duration,
}

/// How keys are agreed on, and how TLS records are sealed and opened once a handshake is over.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordSettings {
    /// By which groups keys are agreed on.
    pub groups: Groups,
    /// Whose record layer.
    pub records: RecordLayer,
    /// Whose AES-GCM, where the record layer is ours.
    pub aead: AeadWish,
    /// Bytes after which we change our key, where the record layer is ours. Absent, it is changed only before so
    /// many records that it would wear out.
    pub key_update_after: Option<u64>,
}

/// The groups by which keys are agreed on (spec/dataplane.md §9.1).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// X25519, P-256, P-384 and X25519MLKEM768, in this order.
    #[default]
    All,
    /// X25519MLKEM768 alone: a peer that cannot do it fails the handshake.
    Pqc,
}

/// Whose record layer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RecordLayer {
    /// Ours, which seals and opens records where they lie.
    #[default]
    InPlace,
    /// The TLS library's own, which copies: to fall back on.
    Rustls,
}

/// Whose AES-GCM.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AeadWish {
    /// The faster one on this machine, measured at start.
    #[default]
    Auto,
    /// AWS-LC's, which also does the handshakes: the one to pin where FIPS is asked for.
    AwsLc,
    /// ring's.
    Ring,
}

/// How long each wait may take (spec/reliability.md §8).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Deadlines {
    /// TLS, from accept or connect on.
    #[serde(deserialize_with = "seconds")]
    pub handshake: Duration,
    /// HTTP/2 preface and SETTINGS, from accept on.
    #[serde(deserialize_with = "seconds")]
    pub preface: Duration,
    /// The rest of a header block or control frame that a peer has begun.
    #[serde(deserialize_with = "seconds")]
    pub headers: Duration,
    /// A TCP connect.
    #[serde(deserialize_with = "seconds")]
    pub dial: Duration,
    /// The answer to a CONNECT.
    #[serde(deserialize_with = "seconds")]
    pub connect: Duration,
    /// Addresses for a name.
    #[serde(deserialize_with = "seconds")]
    pub resolve: Duration,
    /// A SOCKS negotiation.
    #[serde(deserialize_with = "seconds")]
    pub socks: Duration,
    /// Having a certificate of our own.
    #[serde(deserialize_with = "seconds")]
    pub credential: Duration,
    /// An answer about what is learned on demand.
    #[serde(deserialize_with = "seconds")]
    pub demand: Duration,
    /// Knowing the local workload.
    #[serde(deserialize_with = "seconds")]
    pub workload: Duration,
    /// Between a PONG and the next PING.
    #[serde(deserialize_with = "seconds")]
    pub ping_interval: Duration,
    /// Between a PING and its PONG.
    #[serde(deserialize_with = "seconds")]
    pub ping_timeout: Duration,
}

/// Who resolves names (spec/dataplane.md §10.8).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resolver {
    /// The system's configuration: search list, options, and the name servers unless they are given.
    pub config: PathBuf,
    /// Name servers to ask instead.
    pub servers: Vec<SocketAddr>,
}

/// TCP keepalive (spec/dataplane.md §1.1).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Keepalive {
    /// Off leaves the kernel's default (none).
    pub enabled: bool,
    /// Idle time before the first probe.
    #[serde(deserialize_with = "seconds")]
    pub time: Duration,
    /// Between probes.
    #[serde(deserialize_with = "seconds")]
    pub interval: Duration,
    /// Probes before the connection is given up.
    pub retries: u32,
    /// Also give a connection up whose data nobody has acknowledged for so long as all of that takes.
    pub user_timeout: bool,
}

impl Keepalive {
    /// What sockets are told; nothing if it is off.
    pub(crate) fn of_sockets(&self) -> Option<sys::Keepalive> {
        self.enabled.then_some(sys::Keepalive {
            time: self.time,
            interval: self.interval,
            retries: self.retries,
            user_timeout: self.user_timeout,
        })
    }
}

/// Where one line per connection goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// How access lines look instead, and no others.
    pub template: Option<LogTemplate>,
    /// A file to append to; standard output if absent.
    pub path: Option<PathBuf>,
}

/// How log lines look (spec/control.md §13).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// No access log.
    Off,
    /// Tab-separated text.
    #[default]
    Plain,
}

/// How access lines look instead.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum LogTemplate {
    /// As Envoy's under Istio (`telemetry/access_log/envoy.rs`).
    Envoy,
}

impl Settings {
    /// Reads settings.
    ///
    /// # Errors
    /// One sentence with the place and the cause.
    pub fn parse(json: &[u8]) -> Result<Self, SettingsError> {
        let settings: Self =
            serde_json::from_slice(json).map_err(|error| SettingsError(error.to_string()))?;
        if !(1..=256).contains(&settings.workers) {
            return Err(SettingsError(format!(
                "workers: must be between 1 and 256: {}",
                settings.workers
            )));
        }
        let http2 = &settings.http2;
        if http2.stream_window == 0
            || http2.stream_window > http2.stream_window_max
            || http2.stream_window_max > http2.connection_window
            || http2.connection_window >= 1 << 31
        {
            return Err(SettingsError(
                "http2: need 0 < streamWindow <= streamWindowMax <= connectionWindow < 2^31".into(),
            ));
        }
        if !(16_384..1 << 24).contains(&http2.frame_size) {
            return Err(SettingsError(format!(
                "http2.frameSize: must be between 16384 and 16777215: {}",
                http2.frame_size
            )));
        }
        if settings.pool.max_streams == 0 {
            return Err(SettingsError("pool.maxStreams: must not be 0".into()));
        }
        if let Some(bytes) = settings.tls.key_update_after
            && bytes < MIN_KEY_UPDATE_AFTER
        {
            return Err(SettingsError(format!(
                "tls.keyUpdateAfter: must be at least {MIN_KEY_UPDATE_AFTER}: {bytes}"
            )));
        }
        Ok(settings)
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

impl Default for Http2 {
    fn default() -> Self {
        Self {
            stream_window: 256 * 1024,
            stream_window_max: 4 * 1024 * 1024,
            connection_window: 16 * 1024 * 1024,
            frame_size: 1024 * 1024,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_streams: 100,
            idle: Duration::from_secs(300),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            preface: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            dial: Duration::from_secs(10),
            connect: Duration::from_secs(15),
            resolve: Duration::from_secs(10),
            socks: Duration::from_secs(10),
            credential: Duration::from_secs(5),
            demand: Duration::from_secs(5),
            workload: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            config: "/etc/resolv.conf".into(),
            servers: Vec::new(),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            enabled: true,
            time: Duration::from_secs(180),
            interval: Duration::from_secs(180),
            retries: 9,
            user_timeout: false,
        }
    }
}

fn default_workers() -> usize {
    2
}

fn default_cluster() -> String {
    "Kubernetes".into()
}

fn default_hbone_port() -> u16 {
    15008
}

fn yes() -> bool {
    true
}

fn default_log_level() -> String {
    "info".into()
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value > 0.0 && value <= MAX_SECONDS {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(de::Error::custom(format!(
            "a duration must be more than 0 and at most {MAX_SECONDS} seconds: {value}"
        )))
    }
}

#[cfg(test)]
mod tests;
