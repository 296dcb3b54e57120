//! The system's resolver, asked by a worker for its connections.
//!
//! One per worker, made when the first name is asked for: nothing is shared, and a node without such names has none. The
//! questions, their cache and retries are hickory's; here are the bounds it lacks: one question for all who ask at once,
//! so many different ones at a time, and one deadline over search list, retries and servers. Whose fault a missing answer
//! is and which address is taken is `mesh::route`'s.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::{fs, io};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::tasks::spawn_local;

/// What a resolver is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// In the form of resolv.conf(5).
    pub(crate) config: PathBuf,
    /// Instead of the servers in `config`; then it need not exist.
    pub(crate) servers: Vec<SocketAddr>,
    /// Whether AAAA is asked for, beside A.
    pub(crate) ipv6: bool,
    /// For one name, all told.
    pub(crate) deadline: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// There is nobody to ask.
    #[error("cannot resolve names: {0}")]
    Config(Rc<str>),
    #[error("cannot resolve {0}: {1}")]
    Failed(Rc<str>, Rc<str>),
    #[error("cannot resolve {0}: no answer after {1:?}")]
    TimedOut(Rc<str>, Duration),
}

/// What a question came to. `None` while it is under way.
type Outcome = Option<Result<Vec<IpAddr>, ResolveError>>;

/// A worker's resolver.
pub(crate) struct Resolver {
    settings: Settings,
    /// Only once it could be made: a configuration that is not there yet may come.
    system: OnceCell<TokioResolver>,
    /// By name.
    asking: RefCell<HashMap<Rc<str>, watch::Receiver<Outcome>>>,
    places: Semaphore,
}

impl Resolver {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            system: OnceCell::new(),
            asking: RefCell::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Addresses of `hostname`, IPv4 first, possibly none: a name without records has an answer, too.
    ///
    /// # Errors
    /// No such name, or nobody to say so within the deadline.
    pub(crate) async fn resolve(
        self: &Rc<Self>,
        hostname: &str,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let mut outcome = self.ask(hostname);
        let finished = outcome.wait_for(Option::is_some).await;
        match finished.as_deref() {
            Ok(Some(result)) => result.clone(),
            // Its task is gone: the worker ends.
            Ok(None) | Err(_) => Err(failed(hostname, "resolver stopped")),
        }
    }

    /// Joins those who wait for the same name, or begins to ask.
    fn ask(self: &Rc<Self>, hostname: &str) -> watch::Receiver<Outcome> {
        let mut asking = self.asking.borrow_mut();
        if let Some(outcome) = asking.get(hostname).filter(|it| it.has_changed().is_ok()) {
            return outcome.clone();
        }
        let hostname: Rc<str> = hostname.into();
        let (sender, outcome) = watch::channel(None);
        asking.insert(hostname.clone(), outcome.clone());
        let resolver = self.clone();
        spawn_local(async move {
            let deadline = resolver.settings.deadline;
            let result = match timeout(deadline, resolver.look_up(&hostname)).await {
                Ok(result) => result,
                Err(_) => Err(ResolveError::TimedOut(hostname.clone(), deadline)),
            };
            resolver.asking.borrow_mut().remove(&hostname);
            sender.send_replace(Some(result));
        });
        outcome
    }

    async fn look_up(&self, hostname: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let Ok(_place) = self.places.acquire().await else {
            unreachable!("it is never closed");
        };
        let system = self.system()?;
        let found = tokio::select! {
            biased;
            found = system.lookup_ip(hostname) => found,
            alone = ipv4_alone(system, hostname), if self.settings.ipv6 => return Ok(alone),
        };
        match found {
            Ok(found) => Ok(found.iter().map(|ip| ip.to_canonical()).collect()),
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => Ok(Vec::new()),
            Err(error) => Err(failed(hostname, &error.to_string())),
        }
    }

    fn system(&self) -> Result<&TokioResolver, ResolveError> {
        if let Some(system) = self.system.get() {
            return Ok(system);
        }
        let system = build(&self.settings)?;
        Ok(self.system.get_or_init(|| system))
    }
}

/// Addresses of IPv4, once those of IPv6 are late: hickory gives neither before it has given up on both, and there are
/// servers that never answer a question for AAAA (RFC 4074 §4.1). Never ready if there are none: then the others count.
async fn ipv4_alone(system: &TokioResolver, hostname: &str) -> Vec<IpAddr> {
    sleep(FAMILY).await;
    // In the cache by now, if there was an answer.
    if let Ok(found) = system.ipv4_lookup(hostname).await {
        let addresses = found.answers().iter().filter_map(|it| it.data.ip_addr());
        let addresses: Vec<_> = addresses.collect();
        if !addresses.is_empty() {
            return addresses;
        }
    }
    pending().await
}

fn build(settings: &Settings) -> Result<TokioResolver, ResolveError> {
    let (config, mut options) = configuration(settings)?;
    options.cache_size = CACHE;
    options.ip_strategy = if settings.ipv6 {
        LookupIpStrategy::Ipv4AndIpv6
    } else {
        LookupIpStrategy::Ipv4Only
    };
    let provider = TokioRuntimeProvider::default();
    TokioResolver::builder_with_config(config, provider)
        .with_options(options)
        .build()
        .map_err(|error| ResolveError::Config(error.to_string().into()))
}

fn configuration(settings: &Settings) -> Result<(ResolverConfig, ResolverOpts), ResolveError> {
    let path = settings.config.display();
    let cannot =
        |why: &dyn std::fmt::Display| ResolveError::Config(format!("{path}: {why}").into());
    let given = !settings.servers.is_empty();
    let text = match fs::read(&settings.config) {
        Ok(text) => text,
        Err(error) if given && error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(cannot(&error)),
    };
    match parse_resolv_conf(&text) {
        Ok((config, options)) if !given => Ok((config, options)),
        Ok((config, options)) => {
            let (domain, search, _) = config.into_parts();
            let servers = settings.servers.iter().map(server).collect();
            Ok((ResolverConfig::from_parts(domain, search, servers), options))
        }
        Err(_) if given => {
            let servers = settings.servers.iter().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            Ok((config, ResolverOpts::default()))
        }
        Err(error) => Err(cannot(&error)),
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn failed(hostname: &str, why: &str) -> ResolveError {
    ResolveError::Failed(hostname.into(), why.into())
}

/// Answers that are kept (spec/dataplane.md §10.8).
const CACHE: u64 = 4096;
/// How long one family is waited for when the other has answered; RFC 8305 §3 has a sixth of it, for those who can wait
/// no longer.
const FAMILY: Duration = Duration::from_millis(300);
/// Names asked for at once: each has three sockets at most and what a server sends, and a server that is silent keeps them for
/// seconds.
const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests;
