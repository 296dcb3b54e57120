//! What each failure on the way to a peer is called, and which flag operators see (spec/dataplane.md §14).

use super::*;
use crate::telemetry::ResponseFlag as Flag;
use crate::tls::TlsError;
use crate::tunnel::request;

fn peer() -> SocketAddr {
    "10.0.0.2:15008".parse().unwrap()
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed")
}

#[test]
fn every_failure_has_its_text_and_its_flag() {
    let after = Duration::from_secs(10);
    let refused = io::Error::from_raw_os_error(111);
    let table = [
        (
            dial_failed(peer(), &timed_out()),
            Flag::NetworkPolicy,
            "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed",
        ),
        (
            dial_failed(peer(), &refused),
            Flag::Connect,
            "io error: Connection refused (os error 111)",
        ),
        (
            session_failed(&TlsError::Internal("no randomness".into())),
            Flag::TlsFailure,
            "tls error: tls error on our side: no randomness",
        ),
        (
            tunnel_failed(peer(), &TunnelEnd::Tls(TlsError::EndedInHandshake)),
            Flag::Connect,
            "io error: tls handshake error: peer closed the connection before the end of it: 10.0.0.2:15008",
        ),
        (
            tunnel_failed(peer(), &TunnelEnd::HandshakeTimeout(after)),
            Flag::Connect,
            "io error: timed out after 10s: TLS handshake: 10.0.0.2:15008",
        ),
        (
            request::status(401),
            Flag::Connect,
            "http status: 401 Unauthorized",
        ),
        (
            request::status(400),
            Flag::Connect,
            "http status: 400 Bad Request",
        ),
        (
            request::status(503),
            Flag::Connect,
            "http status: 503 Service Unavailable",
        ),
        (
            request::status(302),
            Flag::Connect,
            "http status: 302 Found",
        ),
        (
            request::status(299),
            Flag::Connect,
            "http status: 299 <unknown status code>",
        ),
        (
            request::lost("stream reset by peer: REFUSED_STREAM"),
            Flag::H2HandshakeFailure,
            "h2 failed: stream reset by peer: REFUSED_STREAM",
        ),
        (
            Error::drained(),
            Flag::None,
            "connection closed due to connection drain",
        ),
        (
            Error::policy_changed(),
            Flag::Deny,
            "connection closed due to policy change",
        ),
    ];
    for (error, flag, text) in table {
        assert_eq!((error.flag(), error.text()), (flag, text));
    }
}
