//! The answer to a SOCKS5 request, once we know how the dial went (RFC 1928 §6).

/// How the request ended, as the protocol can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    GeneralFailure,
    /// A policy or a guard of ours forbids it.
    NotAllowed,
    NetworkUnreachable,
    /// Also: no such name.
    HostUnreachable,
    ConnectionRefused,
    /// "TTL expired" in the RFC; clients print it as a timeout.
    TimedOut,
    CommandNotSupported,
    AddressTypeNotSupported,
}

impl Outcome {
    /// The nearest outcome for a failed dial.
    #[must_use]
    pub fn of_dial(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::ConnectionRefused,
            Kind::HostUnreachable => Self::HostUnreachable,
            Kind::NetworkUnreachable => Self::NetworkUnreachable,
            Kind::PermissionDenied => Self::NotAllowed,
            Kind::TimedOut => Self::TimedOut,
            _ => Self::GeneralFailure,
        }
    }
}

/// The ten bytes to send. The bound address is given as `0.0.0.0:0`, as upstream: it would be one of a tunnel
/// shared by many, of no use to the client.
#[must_use]
pub fn reply(outcome: Outcome) -> &'static [u8] {
    match outcome {
        Outcome::Succeeded => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::GeneralFailure => &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::NotAllowed => &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::NetworkUnreachable => &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::HostUnreachable => &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::ConnectionRefused => &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::TimedOut => &[5, 6, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::CommandNotSupported => &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        Outcome::AddressTypeNotSupported => &[5, 8, 0, 1, 0, 0, 0, 0, 0, 0],
    }
}
