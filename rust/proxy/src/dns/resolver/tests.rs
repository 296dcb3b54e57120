//! Against a name server of our own on loopback.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;
use crate::tunnel::tests::play;

const SOON: Duration = Duration::from_secs(30);
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// What the server says to a question.
type Zone = fn(&str, RecordType) -> Option<Reply>;

enum Reply {
    Code(ResponseCode),
    Data(RData, u32),
}

struct Server {
    address: SocketAddr,
    asked: Rc<Cell<usize>>,
}

/// One that answers `zone`'s replies, and leaves the rest without any.
async fn server(zone: Zone) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    spawn_local(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            count.set(count.get() + 1);
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.add_query(query.clone());
            match zone(&query.name().to_ascii(), query.query_type()) {
                None => continue,
                Some(Reply::Code(code)) => answer.metadata.response_code = code,
                Some(Reply::Data(data, ttl)) => {
                    let record = Record::from_rdata(query.name().clone(), ttl, data);
                    answer.add_answer(record);
                }
            }
            let bytes = answer.to_vec().unwrap();
            socket.send_to(&bytes, client).await.unwrap();
        }
    });
    Server { address, asked }
}

fn resolver(settings: impl FnOnce(&mut Settings)) -> Rc<Resolver> {
    let mut wanted = Settings {
        config: "/nonexistent/resolv.conf".into(),
        servers: Vec::new(),
        ipv6: true,
        deadline: SOON,
    };
    settings(&mut wanted);
    Rc::new(Resolver::new(wanted))
}

fn both(name: &str, kind: RecordType) -> Option<Reply> {
    assert_eq!(name, "db.example.com.");
    Some(match kind {
        RecordType::A => Reply::Data(RData::A(A(V4)), 60),
        RecordType::AAAA => Reply::Data(RData::AAAA(AAAA(V6)), 60),
        _ => Reply::Code(ResponseCode::NotImp),
    })
}

#[test]
fn both_families_are_asked_for_once_and_the_answer_is_kept() {
    play(async {
        let server = server(both).await;
        let resolver = resolver(|settings| settings.servers = vec![server.address]);
        for _ in 0..3 {
            let found = resolver.resolve("db.example.com.").await.unwrap();
            assert_eq!(found, [IpAddr::from(V4), IpAddr::from(V6)]);
        }
        assert_eq!(server.asked.get(), 2);
    });
}

#[test]
fn an_answer_that_is_over_is_asked_for_again() {
    fn fleeting(_: &str, _: RecordType) -> Option<Reply> {
        Some(Reply::Data(RData::A(A(V4)), 0))
    }
    play(async {
        let server = server(fleeting).await;
        let resolver = resolver(|settings| {
            settings.servers = vec![server.address];
            settings.ipv6 = false;
        });
        for _ in 0..3 {
            resolver.resolve("db.example.com.").await.unwrap();
        }
        assert_eq!(server.asked.get(), 3);
    });
}

#[test]
fn without_ipv6_only_addresses_of_ipv4_are_asked_for() {
    play(async {
        let server = server(both).await;
        let resolver = resolver(|settings| {
            settings.servers = vec![server.address];
            settings.ipv6 = false;
        });
        let found = resolver.resolve("db.example.com.").await.unwrap();
        assert_eq!(found, [IpAddr::from(V4)]);
        assert_eq!(server.asked.get(), 1);
    });
}

#[test]
fn a_server_that_is_silent_about_ipv6_costs_no_address_of_ipv4() {
    fn silent(_: &str, kind: RecordType) -> Option<Reply> {
        (kind == RecordType::A).then_some(Reply::Data(RData::A(A(V4)), 60))
    }
    play(async {
        let server = server(silent).await;
        let resolver = resolver(|settings| {
            settings.servers = vec![server.address];
            // Less than hickory takes to give up.
            settings.deadline = Duration::from_secs(3);
        });
        for _ in 0..2 {
            let found = resolver.resolve("db.example.com.").await;
            assert_eq!(found, Ok(vec![IpAddr::from(V4)]));
        }
    });
}

#[test]
fn those_who_ask_at_once_ask_once() {
    play(async {
        let server = server(both).await;
        let resolver = resolver(|settings| settings.servers = vec![server.address]);
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let resolver = resolver.clone();
                spawn_local(async move { resolver.resolve("db.example.com.").await })
            })
            .collect();
        for asked in asking {
            assert!(asked.await.unwrap().is_ok());
        }
        assert_eq!(server.asked.get(), 2);
        assert!(resolver.asking.borrow().is_empty());
    });
}

#[test]
fn a_name_without_addresses_is_no_failure_and_no_such_name_is() {
    fn zone(name: &str, _: RecordType) -> Option<Reply> {
        Some(Reply::Code(match name {
            "empty.example.com." => ResponseCode::NoError,
            "none.example.com." => ResponseCode::NXDomain,
            _ => ResponseCode::ServFail,
        }))
    }
    play(async {
        let server = server(zone).await;
        let resolver = resolver(|settings| settings.servers = vec![server.address]);
        let resolve = |name| resolver.resolve(name);
        assert_eq!(resolve("empty.example.com.").await, Ok(Vec::new()));
        for name in ["none.example.com.", "broken.example.com."] {
            let error = resolve(name).await.unwrap_err();
            assert!(matches!(error, ResolveError::Failed(..)), "{error}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("cannot resolve {name}: "))
            );
        }
    });
}

#[test]
fn a_silent_server_is_given_up_at_the_deadline() {
    play(async {
        let server = server(|_, _| None).await;
        let resolver = resolver(|settings| {
            settings.servers = vec![server.address];
            settings.deadline = Duration::from_millis(200);
        });
        let error = resolver.resolve("db.example.com.").await.unwrap_err();
        assert!(matches!(error, ResolveError::TimedOut(..)), "{error}");
        assert!(server.asked.get() > 0);
    });
}

#[test]
fn names_beyond_what_is_asked_at_once_wait_for_a_place_no_longer_than_their_deadline() {
    play(async {
        let server = server(|_, _| None).await;
        let resolver = resolver(|settings| {
            settings.servers = vec![server.address];
            settings.ipv6 = false;
            // Long enough for all of them to be asked before the first gives up.
            settings.deadline = Duration::from_secs(4);
        });
        let asking: Vec<_> = (0..AT_ONCE * 3)
            .map(|index| {
                let resolver = resolver.clone();
                spawn_local(async move { resolver.resolve(&format!("{index}.example.com.")).await })
            })
            .collect();
        while server.asked.get() < AT_ONCE {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.asked.get(), AT_ONCE);
        for asked in asking {
            let error = asked.await.unwrap().unwrap_err();
            assert!(matches!(error, ResolveError::TimedOut(..)), "{error}");
        }
        assert_eq!(resolver.places.available_permits(), AT_ONCE);
    });
}

/// A file of resolv.conf(5), gone with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("ztunnel-resolv-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_search_list_of_the_system_is_used() {
    play(async {
        let file = File::new(
            "search",
            "nameserver 192.0.2.1\nsearch example.com\noptions ndots:5\n",
        );
        let server = server(both).await;
        let resolver = resolver(|settings| {
            settings.config.clone_from(&file.0);
            settings.servers = vec![server.address];
        });
        let found = resolver.resolve("db").await.unwrap();
        assert_eq!(found, [IpAddr::from(V4), IpAddr::from(V6)]);
    });
}

#[test]
fn a_system_without_name_servers_is_named() {
    play(async {
        let empty = File::new("empty", "search example.com\n");
        for path in [PathBuf::from("/nonexistent/resolv.conf"), empty.0.clone()] {
            let resolver = resolver(|settings| settings.config.clone_from(&path));
            let error = resolver.resolve("db.example.com.").await.unwrap_err();
            assert!(matches!(error, ResolveError::Config(_)), "{error}");
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    });
}

#[test]
fn a_configuration_that_comes_later_is_used() {
    play(async {
        let file = File::new("late", "");
        fs::remove_file(&file.0).unwrap();
        let resolver = resolver(|settings| settings.config.clone_from(&file.0));
        let error = resolver.resolve("localhost.").await.unwrap_err();
        assert!(matches!(error, ResolveError::Config(_)), "{error}");
        fs::write(&file.0, "nameserver 192.0.2.1\n").unwrap();
        // Asks no server (RFC 6761 §6.3).
        let found = resolver.resolve("localhost.").await.unwrap();
        assert!(found.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    });
}
