//! `forwarded`: the client behind a tunnel, and the service it asked for (RFC 7239, spec/dataplane.md §6.2–6.3).

use std::net::SocketAddr;

/// Longest DNS name in text form, and a port.
const MAX_HOST: usize = 253 + 6;

/// Writes and reads the little of RFC 7239 that the mesh speaks: one `for`, one `host`.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded;

impl Forwarded {
    /// The header's value for a connection from `client` to the service `host`, if one is known.
    ///
    /// A host that is none (it would break out of its quotes) is left out.
    #[must_use]
    pub fn encode(client: SocketAddr, host: Option<&str>) -> String {
        // Without what a socket may add to an address: the zone and the IPv4-mapped spelling.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        match host.filter(|host| is_host(host)) {
            Some(host) => format!("for=\"{client}\";host={host}"),
            None => format!("for=\"{client}\""),
        }
    }

    /// The `host` that a message's first `forwarded` header names: in the first part between `;` that begins
    /// with `host=`, with or without quotes. Upstream's reading, except that what cannot be a host is none; it
    /// helps to guess a service and is shown to operators, so it had better be one.
    #[must_use]
    pub fn host(header: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(header)
            .ok()
            .filter(|text| text.is_ascii())?;
        let host = text
            .split(';')
            .find_map(|part| part.trim().strip_prefix("host="))?;
        let host = host.strip_prefix('"').unwrap_or(host);
        let host = host.strip_suffix('"').unwrap_or(host);
        is_host(host).then(|| host.to_owned())
    }
}

fn is_host(host: &str) -> bool {
    let plain = |b| matches!(b, b'!'..=b'~') && !matches!(b, b'"' | b',' | b';' | b'\\');
    !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(plain)
}

#[cfg(test)]
mod tests;
