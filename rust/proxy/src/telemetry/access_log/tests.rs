use std::time::UNIX_EPOCH;

use super::*;

fn at(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const POD_A: Party<'static> = Party {
    workload: Some("poda"),
    namespace: Some("default"),
    identity: Some("spiffe://cluster.local/ns/default/sa/sa-a"),
    cluster: Some("Kubernetes"),
};
const POD_B: Party<'static> = Party {
    workload: Some("podb"),
    namespace: Some("default"),
    identity: Some("spiffe://cluster.local/ns/default/sa/sa-b"),
    cluster: Some("Kubernetes"),
};

/// A connection of the recorded mesh: pod a to pod b.
struct Recorded<'a> {
    source: &'a str,
    destination: &'a str,
    target: Option<&'a str>,
    parties: (Party<'a>, Party<'a>),
    service: Option<&'a str>,
    direction: Direction,
}

fn recorded(source: &str, direction: Direction) -> Recorded<'_> {
    Recorded {
        source,
        destination: "10.66.0.3:15008",
        target: Some("10.66.0.3:7300"),
        parties: (POD_A, POD_B),
        service: None,
        direction,
    }
}

impl Recorded<'_> {
    fn write(&self, format: Format, write: impl FnOnce(&Line<'_>, &mut String)) -> String {
        let (source, destination) = &self.parties;
        let line = Line {
            source: address(self.source),
            destination: address(self.destination),
            hbone_address: self
                .target
                .as_ref()
                .map_or(Value::Absent, |target| Value::Bare(target)),
            parties: &Parties::render(source, destination, self.service, self.direction, format),
        };
        let mut out = String::new();
        write(&line, &mut out);
        out
    }
}

fn complete(recorded: &Recorded<'_>, end: &End<'_>, micros: u64, format: Format) -> String {
    recorded.write(format, |line, out| {
        line.complete(end, at(micros), format, out)
    })
}

fn end(bytes_sent: u64, bytes_received: u64, millis: u64, error: Option<&str>) -> End<'_> {
    End {
        bytes_sent,
        bytes_received,
        duration: Duration::from_millis(millis),
        error,
        ending: Ending::default(),
    }
}

// The expected lines are upstream's own, recorded.

#[test]
fn a_completed_connection_reads_as_upstream_writes_it() {
    let mut with_service = recorded("10.66.0.2:8182", Direction::Outbound);
    with_service.service = Some("echo.default.svc.cluster.local");
    assert_eq!(
        complete(
            &with_service,
            &end(6, 5, 0, None),
            1_795_387_414_704_939,
            Format::Plain
        ),
        "2026-11-22T22:43:34.704939Z\tinfo\taccess\tconnection complete\tsrc.addr=10.66.0.2:8182 src.workload=\"poda\" src.namespace=\"default\" src.identity=\"spiffe://cluster.local/ns/default/sa/sa-a\" src.cluster=\"Kubernetes\" dst.addr=10.66.0.3:15008 dst.hbone_addr=10.66.0.3:7300 dst.service=\"echo.default.svc.cluster.local\" dst.workload=\"podb\" dst.namespace=\"default\" dst.identity=\"spiffe://cluster.local/ns/default/sa/sa-b\" dst.cluster=\"Kubernetes\" direction=\"outbound\" bytes_sent=6 bytes_recv=5 duration=\"0ms\"\n"
    );
}

#[test]
fn a_failed_connection_is_an_error_and_says_why() {
    let mut refused = recorded("10.66.0.2:63892", Direction::Inbound);
    refused.target = Some("10.66.0.3:7999");
    let error = Some("connection failed: Connection refused (os error 111)");
    assert_eq!(
        complete(
            &refused,
            &end(0, 0, 0, error),
            1_795_387_414_705_112,
            Format::Plain
        ),
        "2026-11-22T22:43:34.705112Z\terror\taccess\tconnection complete\tsrc.addr=10.66.0.2:63892 src.workload=\"poda\" src.namespace=\"default\" src.identity=\"spiffe://cluster.local/ns/default/sa/sa-a\" src.cluster=\"Kubernetes\" dst.addr=10.66.0.3:15008 dst.hbone_addr=10.66.0.3:7999 dst.workload=\"podb\" dst.namespace=\"default\" dst.identity=\"spiffe://cluster.local/ns/default/sa/sa-b\" dst.cluster=\"Kubernetes\" direction=\"inbound\" bytes_sent=0 bytes_recv=0 duration=\"0ms\" error=\"connection failed: Connection refused (os error 111)\"\n"
    );
}

#[test]
fn a_plaintext_connection_names_no_identity() {
    let plain = Recorded {
        source: "10.66.0.2:43148",
        destination: "10.66.0.1:18099",
        target: None,
        parties: (
            Party {
                identity: None,
                ..POD_A
            },
            Party {
                workload: Some("zt-b"),
                namespace: Some("istio-system"),
                identity: None,
                cluster: Some("Kubernetes"),
            },
        ),
        service: None,
        direction: Direction::Outbound,
    };
    assert_eq!(
        complete(
            &plain,
            &end(332, 75, 1, None),
            1_795_387_414_713_354,
            Format::Plain
        ),
        "2026-11-22T22:43:34.713354Z\tinfo\taccess\tconnection complete\tsrc.addr=10.66.0.2:43148 src.workload=\"poda\" src.namespace=\"default\" src.cluster=\"Kubernetes\" dst.addr=10.66.0.1:18099 dst.workload=\"zt-b\" dst.namespace=\"istio-system\" dst.cluster=\"Kubernetes\" direction=\"outbound\" bytes_sent=332 bytes_recv=75 duration=\"1ms\"\n"
    );
}

#[test]
fn json_lines_read_as_upstream_writes_them() {
    assert_eq!(
        complete(
            &recorded("10.66.0.2:61128", Direction::Outbound),
            &end(6, 5, 16, None),
            1_795_387_379_573_560,
            Format::Json
        ),
        r#"{"level":"info","time":"2026-11-22T22:42:59.573560Z","scope":"access","message":"connection complete","src.addr":"10.66.0.2:61128","src.workload":"poda","src.namespace":"default","src.identity":"spiffe://cluster.local/ns/default/sa/sa-a","src.cluster":"Kubernetes","dst.addr":"10.66.0.3:15008","dst.hbone_addr":"10.66.0.3:7300","dst.workload":"podb","dst.namespace":"default","dst.identity":"spiffe://cluster.local/ns/default/sa/sa-b","dst.cluster":"Kubernetes","direction":"outbound","bytes_sent":6,"bytes_recv":5,"duration":"16ms"}"#.to_owned() + "\n"
    );
    let mut refused = recorded("10.66.0.2:19422", Direction::Outbound);
    refused.target = Some("10.66.0.3:7999");
    assert_eq!(
        complete(
            &refused,
            &end(0, 0, 0, Some("http status: 503 Service Unavailable")),
            1_795_387_379_574_816,
            Format::Json
        ),
        r#"{"level":"error","time":"2026-11-22T22:42:59.574816Z","scope":"access","message":"connection complete","src.addr":"10.66.0.2:19422","src.workload":"poda","src.namespace":"default","src.identity":"spiffe://cluster.local/ns/default/sa/sa-a","src.cluster":"Kubernetes","dst.addr":"10.66.0.3:15008","dst.hbone_addr":"10.66.0.3:7999","dst.workload":"podb","dst.namespace":"default","dst.identity":"spiffe://cluster.local/ns/default/sa/sa-b","dst.cluster":"Kubernetes","direction":"outbound","bytes_sent":0,"bytes_recv":0,"duration":"0ms","error":"http status: 503 Service Unavailable"}"#.to_owned() + "\n"
    );
}

#[test]
fn an_opened_connection_has_neither_bytes_nor_duration() {
    let inbound = recorded("10.66.0.2:1", Direction::Inbound);
    let out = inbound.write(Format::Plain, |line, out| {
        line.opened(at(0), Format::Plain, out)
    });
    assert!(
        out.starts_with("1970-01-01T00:00:00.000000Z\tdebug\taccess\tconnection opened\tsrc.addr=")
    );
    assert!(out.ends_with(" direction=\"inbound\"\n"), "{out}");
}

#[test]
fn an_early_denial_knows_addresses_direction_and_error_only() {
    let denied = Denied {
        source: address("[2001:db8::1]:5"),
        destination: Some(address("10.66.0.3:15008")),
        direction: Direction::Inbound,
        error: "tls error: no \"certificate\"\nlevel=info",
        ending: Ending::default(),
    };
    let mut out = String::new();
    denied.write(at(0), Format::Plain, &mut out);
    assert_eq!(
        out,
        "1970-01-01T00:00:00.000000Z\twarn\taccess\tconnection failed\tsrc.addr=[2001:db8::1]:5 dst.addr=10.66.0.3:15008 direction=\"inbound\" error=\"tls error: no \\\"certificate\\\"\\nlevel=info\"\n"
    );
}

#[test]
fn a_hostile_host_in_the_target_stays_one_field() {
    let mut evil = recorded("10.66.0.2:1", Direction::Inbound);
    evil.target = Some("web dst.identity=\"x\"\n:80");
    let text = complete(&evil, &end(0, 0, 0, None), 0, Format::Plain);
    assert!(text.contains(" dst.hbone_addr=\"web dst.identity=\\\"x\\\"\\n:80\" dst.workload="));
    assert_eq!(text.matches('\n').count(), 1);
}

#[test]
fn an_address_reads_as_its_text_would() {
    for format in [Format::Plain, Format::Json] {
        let recorded = recorded("10.66.0.2:1", Direction::Inbound);
        let as_text = complete(&recorded, &end(1, 2, 3, None), 0, format);
        let as_address = recorded.write(format, |line, out| {
            let line = Line {
                hbone_address: Value::Address(address("10.66.0.3:7300")),
                ..*line
            };
            line.complete(&end(1, 2, 3, None), at(0), format, out);
        });
        assert_eq!(as_text, as_address);
    }
}

#[test]
fn a_name_of_a_peers_choice_stays_one_field_in_both_formats() {
    let mut evil = recorded("10.66.0.2:1", Direction::Inbound);
    evil.parties.0.workload = Some("x\" dst.identity=\"y\n\u{202e}");
    let plain = complete(&evil, &end(0, 0, 0, None), 0, Format::Plain);
    assert!(plain.contains(r#" src.workload="x\" dst.identity=\"y\n\u{202e}" src.namespace="#));
    assert_eq!(plain.matches('\n').count(), 1);
    let json = complete(&evil, &end(0, 0, 0, None), 0, Format::Json);
    let line: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(line["src.workload"], "x\" dst.identity=\"y\n\u{202e}");
    assert_eq!(json.matches('\n').count(), 1);
}

/// A file of upstream's, recorded: `tests/vectors/upstream`.
fn golden(name: &str) -> String {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/upstream");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// The same connection, told by us: the line that the fields of a recorded one (JSON) make.
fn told_again(line: &serde_json::Value, format: Format) -> String {
    let text = |name: &str| line[name].as_str();
    let party = |side: &str| {
        let field = |name: &str| text(&format!("{side}.{name}"));
        Party {
            workload: field("workload"),
            namespace: field("namespace"),
            identity: field("identity"),
            cluster: field("cluster"),
        }
    };
    let connection = Recorded {
        source: text("src.addr").unwrap(),
        destination: text("dst.addr").unwrap(),
        target: text("dst.hbone_addr"),
        parties: (party("src"), party("dst")),
        service: text("dst.service"),
        direction: match text("direction").unwrap() {
            "inbound" => Direction::Inbound,
            _ => Direction::Outbound,
        },
    };
    let millis = text("duration").unwrap().strip_suffix("ms").unwrap();
    let end = end(
        line["bytes_sent"].as_u64().unwrap(),
        line["bytes_recv"].as_u64().unwrap(),
        millis.parse().unwrap(),
        text("error"),
    );
    complete(&connection, &end, 0, format)
}

const EPOCH: &str = "1970-01-01T00:00:00.000000Z";

#[test]
fn every_recorded_line_reads_the_same_when_we_tell_of_its_connection() {
    let mut seen = 0;
    for node in ["node-a", "node-b"] {
        let recorded = golden(&format!("{node}-log-json.txt"));
        for line in recorded
            .lines()
            .filter(|line| line.contains(r#""scope":"access""#))
        {
            let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
            let time = parsed["time"].as_str().unwrap();
            let ours = told_again(&parsed, Format::Json);
            assert_eq!(ours.trim_end().replace(EPOCH, time), line);
            seen += 1;
        }
    }
    assert_eq!(seen, 14);
}

/// The fields of a plain line as JSON would have them; the recorded ones have neither quotes nor spaces of their own
/// but in `error`.
fn fields(line: &str) -> serde_json::Value {
    let pairs = line.split('\t').nth(4).unwrap();
    let mut rest = pairs;
    let mut found = serde_json::Map::new();
    while let Some((name, behind)) = rest.split_once('=') {
        let (value, after) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').unwrap();
                (value.into(), after)
            }
            None => {
                let (value, after) = behind.split_once(' ').unwrap_or((behind, ""));
                let number = value.parse::<u64>().map(Into::into);
                (number.unwrap_or_else(|_| value.into()), after)
            }
        };
        found.insert(name.trim_start().to_owned(), value);
        rest = after;
    }
    found.into()
}

#[test]
fn every_recorded_plain_line_reads_the_same_too() {
    let mut seen = 0;
    for node in ["node-a", "node-b"] {
        let recorded = golden(&format!("{node}-log-plain.txt"));
        for line in recorded.lines().filter(|line| line.contains("\taccess\t")) {
            let (time, _) = line.split_once('\t').unwrap();
            let ours = told_again(&fields(line), Format::Plain);
            assert_eq!(ours.trim_end().replace(EPOCH, time), line);
            seen += 1;
        }
    }
    assert_eq!(seen, 14);
}
