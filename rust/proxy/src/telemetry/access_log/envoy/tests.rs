//! Lines beside those that a mesh of Envoys wrote for the same kinds of connections.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::telemetry::access_log::{Parties, Party};
use crate::telemetry::log::Format;

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/sleep";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/productpage";

struct Connection<'a> {
    direction: Direction,
    source: &'a str,
    destination: &'a str,
    target: Value<'a>,
    identities: [Option<&'a str>; 2],
    error: Option<&'a str>,
    ending: Ending,
}

const DONE: Ending = Ending {
    flags: "",
    established: true,
};

impl Connection<'_> {
    fn line(&self) -> String {
        let party = |identity| Party {
            identity,
            workload: Some("somebody"),
            ..Party::default()
        };
        let [source, destination] = self.identities.map(party);
        let format = Format::Envoy;
        let line = Line {
            source: self.source.parse().unwrap(),
            destination: self.destination.parse().unwrap(),
            hbone_address: self.target,
            parties: &Parties::render(&source, &destination, None, self.direction, format),
        };
        let end = End {
            bytes_sent: 735,
            bytes_received: 699,
            duration: Duration::from_millis(2),
            error: self.error,
            ending: self.ending,
        };
        let at = UNIX_EPOCH + Duration::from_micros(1_663_272_098_166_999);
        let mut out = String::new();
        line.opened(at, format, &mut out);
        assert_eq!(out, "", "one line a connection");
        line.complete(&end, at, format, &mut out);
        out
    }
}

/// The columns of a line, quoted ones without their quotes.
fn columns(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line.trim_end_matches('\n');
    while !rest.is_empty() {
        let (column, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted
                .char_indices()
                .scan(false, |escaped, (at, c)| {
                    let was = std::mem::replace(escaped, c == '\\' && !*escaped);
                    Some((at, c == '"' && !was))
                })
                .find_map(|(at, ends)| ends.then_some(at))
                .expect("a quote that ends");
            (&quoted[..end], &quoted[end + 1..])
        } else {
            rest.split_at(rest.find(' ').unwrap_or(rest.len()))
        };
        found.push(column.to_owned());
        rest = behind.strip_prefix(' ').unwrap_or(behind);
    }
    found
}

fn inbound() -> Connection<'static> {
    Connection {
        direction: Direction::Inbound,
        source: "10.124.1.5:50372",
        destination: "10.124.2.9:15008",
        target: Value::Address(([10, 124, 2, 9], 9080).into()),
        identities: [Some(CLIENT), Some(SERVER)],
        error: None,
        ending: DONE,
    }
}

#[test]
fn a_request_that_came_through_a_tunnel_reads_as_envoys() {
    // Envoy's, under Istio: `[…] "CONNECT - HTTP/2" 200 - via_upstream - "-" 699 735 2 - "-" "-" "<id>"
    // "10.124.2.9:9080" "10.124.2.9:9080" virtual_inbound 10.124.2.9:39183 10.124.2.9:15008 10.124.1.5:50372 - -
    // inbound hcm`. We have no request's id, and the kernel chooses our own port towards the application.
    assert_eq!(
        inbound().line(),
        "[2022-09-15T20:01:38.164Z] \"CONNECT - HTTP/2\" 200 - via_upstream - \"-\" 699 735 2 - \"-\" \"-\" \"-\" \
         \"10.124.2.9:9080\" \"10.124.2.9:9080\" virtual_inbound - 10.124.2.9:15008 10.124.1.5:50372 - - inbound hcm \
         \"spiffe://cluster.local/ns/default/sa/sleep\"\n"
    );
}

#[test]
fn an_applications_connection_through_a_tunnel_reads_as_envoys() {
    let outbound = Connection {
        direction: Direction::Outbound,
        source: "10.244.1.4:45678",
        destination: "10.244.2.3:15008",
        target: Value::Address(([10, 96, 69, 132], 9080).into()),
        ..inbound()
    };
    // Downstream of us is the application: what it sent is received.
    assert_eq!(
        outbound.line(),
        "[2022-09-15T20:01:38.164Z] \"- - -\" 0 - - - \"-\" 735 699 2 - \"-\" \"-\" \"-\" \"10.96.69.132:9080\" \
         \"10.244.2.3:15008\" outbound_tunnel_clus_spiffe://cluster.local/ns/default/sa/sleep - 10.96.69.132:9080 \
         10.244.1.4:45678 - - outbound tunnel \"spiffe://cluster.local/ns/default/sa/productpage\"\n"
    );
}

#[test]
fn plain_connections_have_no_request_and_no_peer() {
    let plain = |direction| Connection {
        direction,
        destination: "[2001:db8::9]:80",
        target: Value::Absent,
        identities: [None, None],
        ..inbound()
    };
    let outbound = columns(&plain(Direction::Outbound).line());
    assert_eq!(outbound[1], "- - -");
    assert_eq!(
        outbound[15..18],
        ["[2001:db8::9]:80", "PassthroughCluster", "-"]
    );
    assert_eq!(outbound[22..], ["outbound", "passthrough", "-"]);
    let inbound = columns(&plain(Direction::Inbound).line());
    assert_eq!(inbound[2], "0");
    assert_eq!(inbound[16], "virtual_inbound");
    assert_eq!(inbound[22..], ["inbound", "passthrough", "-"]);
}

#[test]
fn a_failure_has_its_flag_and_its_sentence() {
    let refused = Connection {
        error: Some("connection failed: Connection refused (os error 111)"),
        ending: Ending {
            flags: "UF",
            established: false,
        },
        ..inbound()
    };
    let line = columns(&refused.line());
    assert_eq!(line[2..5], ["0", "UF", "-"]);
    assert_eq!(
        line[6],
        "connection failed: Connection refused (os error 111)"
    );
    let torn = Connection {
        ending: Ending {
            flags: "UC",
            established: true,
        },
        ..refused
    };
    assert_eq!(columns(&torn.line())[2..5], ["200", "UC", "via_upstream"]);
}

#[test]
fn whoever_is_turned_away_early_has_a_line_of_as_many_columns() {
    let denied = Denied {
        source: "10.0.0.1:1".parse().unwrap(),
        destination: None,
        direction: Direction::Inbound,
        error: "tls error: no certificate",
        ending: Ending {
            flags: "UF",
            established: false,
        },
    };
    let mut out = String::new();
    denied.write(UNIX_EPOCH, Format::Envoy, &mut out);
    assert!(out.starts_with("[1970-01-01T00:00:00.000Z] \"- - -\" 0 UF "));
    assert_eq!(columns(&out).len(), columns(&inbound().line()).len());
}

#[test]
fn whatever_a_peer_says_a_line_stays_one_line_and_a_column_one_column() {
    for hostile in [
        "evil\n[2022-09-15T20:01:38.164Z] \"CONNECT - HTTP/2\" 200",
        "a\"b",
        "\\",
        "tab\tescape\u{1b}[31m",
        "\u{202e}",
        "",
    ] {
        let peer = Connection {
            target: Value::Bare(&hostile),
            identities: [Some(CLIENT), None],
            error: Some(hostile),
            ..inbound()
        };
        let line = peer.line();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.chars().any(|c| c.is_control() && c != '\n'));
        assert_eq!(columns(&line).len(), 25, "{line}");
    }
}
