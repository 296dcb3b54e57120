//! The matcher against a second one, written straight from the text of spec/dataplane.md §8 and sharing no code with it.
//!
//! Random policies over a small world, so that hits and misses are about equally frequent, and random connections; both
//! must agree on verdict, reason and dry-run notes, and `explain` with both. `AUTHORIZE_ORACLE_CASES` sets how many sets of
//! policies are drawn.

use std::net::{IpAddr, SocketAddr};

use mesh::authorize::{ConnectionFacts, Note, Verdict, authorize};
use mesh::decode::{Resource, TYPE_AUTHORIZATION, TYPE_WORKLOAD};
use mesh::explain::explain_authorize;
use mesh::store::MeshStore;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

const NAMESPACES: [&str; 3] = ["a", "b", "aa"];
const ACCOUNTS: [&str; 3] = ["x", "y", "ax"];
const DOMAINS: [&str; 2] = ["td", "cluster.local"];
const ADDRESSES: [&str; 6] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.1.0.1",
    "::ffff:10.0.0.1",
    "ff06::1",
    "ff06::2",
];
const PORTS: [u16; 3] = [80, 443, 8080];

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    namespace: &'static str,
    scope: &'static str,
    allow: bool,
    dry_run: bool,
    rules: Vec<Vec<Vec<Conditions>>>,
}

/// Positive and negative list of each attribute.
#[derive(Clone, Debug)]
struct Conditions {
    namespaces: [Vec<Pattern>; 2],
    accounts: [Vec<(&'static str, &'static str)>; 2],
    principals: [Vec<Pattern>; 2],
    sources: [Vec<(IpAddr, u8)>; 2],
    destinations: [Vec<(IpAddr, u8)>; 2],
    ports: [Vec<u16>; 2],
}

#[derive(Clone, Debug)]
struct Pattern {
    kind: &'static str,
    text: String,
}

#[derive(Clone, Debug)]
struct Peer {
    domain: &'static str,
    namespace: &'static str,
    account: &'static str,
}

#[derive(Clone, Debug)]
struct Connection {
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    peer: Option<Peer>,
}

#[derive(Clone, Debug)]
struct Server {
    namespace: &'static str,
    policies: Vec<String>,
}

/// The oracle: §8.2 and §8.3, sentence by sentence.
mod oracle {
    use super::*;

    /// "rules empty → false. Any rule true → true."
    pub(super) fn policy_matches(policy: &Policy, c: &Connection) -> bool {
        for rule in &policy.rules {
            // "all clauses must be true; rule with zero clauses → true"
            let mut all = true;
            for clause in rule {
                // "zero matches → true; else any match true"
                let mut any = clause.is_empty();
                for conditions in clause {
                    if conditions_match(conditions, c) {
                        any = true;
                    }
                }
                if !any {
                    all = false;
                }
            }
            if all {
                return true;
            }
        }
        false
    }

    /// "AND over six attribute pairs; for each: (positive list empty OR any positive hits) AND (negative list empty OR no
    /// negative hits)"; "a match with all twelve lists empty → never true"
    fn conditions_match(m: &Conditions, c: &Connection) -> bool {
        let empty = m.namespaces.iter().all(Vec::is_empty)
            && m.accounts.iter().all(Vec::is_empty)
            && m.principals.iter().all(Vec::is_empty)
            && m.sources.iter().all(Vec::is_empty)
            && m.destinations.iter().all(Vec::is_empty)
            && m.ports.iter().all(Vec::is_empty);
        if empty {
            return false;
        }
        // "identity namespace or "" when no identity"
        let namespace = c.peer.as_ref().map_or("", |p| p.namespace);
        // "identity string with spiffe:// stripped; no identity → no hit"
        let principal = c
            .peer
            .as_ref()
            .map(|p| format!("{}/ns/{}/sa/{}", p.domain, p.namespace, p.account));
        holds(&m.destinations, |block| in_block(c.destination, *block))
            && holds(&m.sources, |block| in_block(c.source, *block))
            && holds(&m.ports, |port| *port == c.port)
            && holds(&m.accounts, |(ns, sa)| match &c.peer {
                Some(peer) => peer.namespace == *ns && peer.account == *sa,
                None => false,
            })
            && holds(&m.principals, |p| match &principal {
                Some(text) => text_matches(p, text),
                None => false,
            })
            && holds(&m.namespaces, |p| text_matches(p, namespace))
    }

    fn holds<T>([positive, negative]: &[Vec<T>; 2], hit: impl Fn(&T) -> bool) -> bool {
        let mut some_positive = positive.is_empty();
        for entry in positive {
            some_positive |= hit(entry);
        }
        let mut some_negative = false;
        for entry in negative {
            some_negative |= hit(entry);
        }
        some_positive && !some_negative
    }

    /// "Exact ==, Prefix, Suffix, Presence = non-empty"
    fn text_matches(pattern: &Pattern, text: &str) -> bool {
        let p = pattern.text.as_str();
        match pattern.kind {
            "Exact" => text == p,
            "Prefix" => text.len() >= p.len() && &text[..p.len()] == p,
            "Suffix" => text.len() >= p.len() && &text[text.len() - p.len()..] == p,
            _ => !text.is_empty(),
        }
    }

    fn in_block(address: IpAddr, (network, prefix): (IpAddr, u8)) -> bool {
        let (a, n) = (bits(address), bits(network));
        a.len() == n.len() && a[..usize::from(prefix)] == n[..usize::from(prefix)]
    }

    /// As text of 0 and 1; a mapped address is an IPv4 address.
    fn bits(address: IpAddr) -> String {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => v4.octets().to_vec(),
                None => v6.octets().to_vec(),
            },
        };
        octets.iter().map(|octet| format!("{octet:08b}")).collect()
    }

    /// The answer, and the notes in any order.
    pub(super) fn decide(
        policies: &[Policy],
        server: &Server,
        c: &Connection,
    ) -> (Option<String>, Vec<String>) {
        // "namespace(wl.namespace) ∪ global ∪ wl.authorization_policies (keys); unknown key → ignored"
        let key = |p: &Policy| format!("{}/{}", p.namespace, p.name);
        let applies = |p: &&Policy| {
            p.scope == "Global"
                || (p.scope == "Namespace" && p.namespace == server.namespace)
                || server.policies.contains(&key(p))
        };
        let known: Vec<&Policy> = policies.iter().filter(applies).collect();
        let of = |allow: bool, dry_run: bool| {
            known
                .iter()
                .copied()
                .filter(move |p| p.allow == allow && p.dry_run == dry_run)
        };
        let mut notes: Vec<String> = of(false, true)
            .filter(|p| policy_matches(p, c))
            .map(|p| format!("deny {}", key(p)))
            .collect();
        let mut denied: Vec<String> = of(false, false)
            .filter(|p| policy_matches(p, c))
            .map(key)
            .collect();
        if !denied.is_empty() {
            denied.sort();
            return (Some(denied.join(" ")), notes);
        }
        let dry: Vec<String> = of(true, true)
            .filter(|p| policy_matches(p, c))
            .map(key)
            .collect();
        notes.extend(dry.iter().map(|key| format!("allow {key}")));
        if of(true, false).count() == 0 {
            if dry.is_empty() && of(true, true).count() > 0 {
                notes.push("none".into());
            }
            return (None, notes);
        }
        if of(true, false).any(|p| policy_matches(p, c)) {
            return (None, notes);
        }
        (Some("none allowed".into()), notes)
    }
}

fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
    let texts = [
        "",
        "a",
        "aa",
        "b",
        "td/ns/a/sa/x",
        "td/ns/aa",
        "td",
        "/sa/x",
        "x",
        "spiffe://td",
        "cluster.local/ns/b/sa/y",
    ];
    let pattern = (
        select(vec!["Exact", "Prefix", "Suffix", "Presence"]),
        select(texts.to_vec()),
    )
        .prop_map(|(kind, text)| Pattern {
            kind,
            text: text.into(),
        });
    few(pattern)
}

fn blocks() -> impl Strategy<Value = Vec<(IpAddr, u8)>> {
    let block = (select(ADDRESSES.to_vec()), 0..=128_u8).prop_map(|(address, prefix)| {
        let address: IpAddr = ip(address).to_canonical();
        (
            address,
            if address.is_ipv4() {
                prefix % 33
            } else {
                prefix
            },
        )
    });
    few(block)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("the list holds addresses")
}

fn few<T: Clone + std::fmt::Debug + 'static>(
    one: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<T>> {
    let some = prop::collection::vec(one, 1..3);
    prop_oneof![5 => Just(Vec::new()), 1 => some].boxed()
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let account = || few((select(NAMESPACES.to_vec()), select(ACCOUNTS.to_vec())));
    let ports = || few(select(PORTS.to_vec()));
    (
        [patterns(), patterns()],
        [account(), account()],
        [patterns(), patterns()],
        [blocks(), blocks()],
        [blocks(), blocks()],
        [ports(), ports()],
    )
        .prop_map(
            |(namespaces, accounts, principals, sources, destinations, ports)| Conditions {
                namespaces,
                accounts,
                principals,
                sources,
                destinations,
                ports,
            },
        )
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let rules = || {
        let clause = prop::collection::vec(conditions(), 0..3);
        prop::collection::vec(prop::collection::vec(clause, 0..3), 0..3)
    };
    let scopes = vec!["Global", "Namespace", "WorkloadSelector"];
    let policy = (
        select(NAMESPACES.to_vec()),
        select(scopes),
        any::<bool>(),
        prop::bool::weighted(0.3),
        rules(),
    );
    prop::collection::vec(policy, 0..6).prop_map(|policies| {
        let named = policies.into_iter().enumerate();
        let build = |(index, (namespace, scope, allow, dry_run, rules))| Policy {
            name: format!("p{index}"),
            namespace,
            scope,
            allow,
            dry_run,
            rules,
        };
        named.map(build).collect()
    })
}

fn connection() -> impl Strategy<Value = Connection> {
    let peer = (
        select(DOMAINS.to_vec()),
        select(NAMESPACES.to_vec()),
        select(ACCOUNTS.to_vec()),
    )
        .prop_map(|(domain, namespace, account)| Peer {
            domain,
            namespace,
            account,
        });
    let address = || select(ADDRESSES.to_vec()).prop_map(ip);
    (
        address(),
        address(),
        select(PORTS.to_vec()),
        prop::option::weighted(0.8, peer),
    )
        .prop_map(|(source, destination, port, peer)| Connection {
            source,
            destination,
            port,
            peer,
        })
}

fn server() -> impl Strategy<Value = Server> {
    let keys = prop::collection::vec((select(NAMESPACES.to_vec()), 0..8), 0..4);
    (select(NAMESPACES.to_vec()), keys).prop_map(|(namespace, keys)| Server {
        namespace,
        policies: keys
            .into_iter()
            .map(|(ns, n)| format!("{ns}/p{n}"))
            .collect(),
    })
}

fn to_json(policy: &Policy) -> Value {
    let patterns = |patterns: &[Pattern]| {
        let one = |p: &Pattern| match p.kind {
            "Presence" => json!({"Presence": []}),
            kind => json!({ kind: p.text }),
        };
        patterns.iter().map(one).collect::<Vec<_>>()
    };
    let accounts = |accounts: &[(&str, &str)]| {
        let one = |(ns, sa): &(&str, &str)| json!({"namespace": ns, "serviceAccount": sa});
        accounts.iter().map(one).collect::<Vec<_>>()
    };
    let blocks = |blocks: &[(IpAddr, u8)]| {
        blocks
            .iter()
            .map(|(a, p)| format!("{a}/{p}"))
            .collect::<Vec<_>>()
    };
    let object = |m: &Conditions| {
        json!({
            "namespaces": patterns(&m.namespaces[0]), "notNamespaces": patterns(&m.namespaces[1]),
            "serviceAccounts": accounts(&m.accounts[0]), "notServiceAccounts": accounts(&m.accounts[1]),
            "principals": patterns(&m.principals[0]), "notPrincipals": patterns(&m.principals[1]),
            "sourceIps": blocks(&m.sources[0]), "notSourceIps": blocks(&m.sources[1]),
            "destinationIps": blocks(&m.destinations[0]), "notDestinationIps": blocks(&m.destinations[1]),
            "destinationPorts": m.ports[0], "notDestinationPorts": m.ports[1],
        })
    };
    let clause = |clause: &Vec<Conditions>| clause.iter().map(object).collect::<Vec<_>>();
    let rule = |rule: &Vec<Vec<Conditions>>| rule.iter().map(clause).collect::<Vec<_>>();
    json!({
        "name": policy.name, "namespace": policy.namespace, "scope": policy.scope, "dryRun": policy.dry_run,
        "action": if policy.allow { "Allow" } else { "Deny" },
        "rules": policy.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

/// `older` ones come first, some of which the later ones replace; the rest is taken away again.
fn load(older: &[Policy], policies: &[Policy], server: &Server) -> MeshStore {
    let mut store = MeshStore::new();
    let mut put = |type_url: &str, name: &str, value: Value| {
        let value = value.to_string();
        let resource = Resource {
            type_url,
            name,
            value: value.as_bytes(),
        };
        assert_eq!(store.apply(&[resource], &[]).rejections, []);
    };
    let key = |policy: &Policy| format!("{}/{}", policy.namespace, policy.name);
    for policy in older.iter().chain(policies) {
        put(TYPE_AUTHORIZATION, &key(policy), to_json(policy));
    }
    let workload = json!({"uid": "server", "namespace": server.namespace, "workloadIps": [],
        "authorizationPolicies": server.policies});
    put(TYPE_WORKLOAD, "server", workload);
    let gone = older.iter().map(key);
    for key in gone.filter(|gone| policies.iter().all(|policy| key(policy) != *gone)) {
        store.apply(&[], &[(TYPE_AUTHORIZATION, &key)]);
    }
    store
}

/// Sets of policies, each asked about 12 connections.
#[expect(
    clippy::disallowed_methods,
    reason = "the crate reads no environment; whoever runs this test may ask for more cases"
)]
fn cases() -> u32 {
    let set = std::env::var("AUTHORIZE_ORACLE_CASES").ok();
    set.map_or(3000, |text| text.parse().expect("a number"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_matcher_agrees_with_the_text_of_the_specification(
        older in policies(),
        policies in policies(),
        server in server(),
        connections in prop::collection::vec(connection(), 12),
    ) {
        let mesh = load(&older, &policies, &server).snapshot();
        let workload = mesh.workload_by_uid("server").unwrap();
        for c in &connections {
            let identity = c.peer.as_ref().map(|p| format!("spiffe://{}/ns/{}/sa/{}", p.domain, p.namespace, p.account));
            let facts = ConnectionFacts {
                source: SocketAddr::new(c.source, 4000),
                destination: SocketAddr::new(c.destination, c.port),
                identity: identity.map(|id| id.parse().unwrap()),
            };
            let (refusal, mut expected_notes) = oracle::decide(&policies, &server, c);
            let decision = authorize(&mesh, workload, &facts);
            match (&decision.verdict, &refusal) {
                (Verdict::Allow, None) => {}
                (Verdict::Deny(reason), Some(expected)) if expected == "none allowed" => {
                    prop_assert_eq!(reason.to_string(), "allow policies exist, but none allowed");
                }
                (Verdict::Deny(reason), Some(denied)) => {
                    let reason = reason.to_string();
                    let by = reason.strip_prefix("explicitly denied by: ").unwrap();
                    prop_assert!(denied.split(' ').any(|key| key == by), "{} is not one of {}", by, denied);
                }
                (verdict, expected) => prop_assert!(false, "{verdict:?}, not {expected:?}, for {c:?}"),
            }
            let mut notes: Vec<String> = Vec::new();
            for note in &decision.notes {
                match note {
                    Note::DryRunAllow(key) => notes.push(format!("allow {key}")),
                    Note::DryRunDeny(key) => notes.push(format!("deny {key}")),
                    Note::DryRunNotAllowed => notes.push("none".into()),
                    Note::UnknownPolicy(key) => prop_assert!(mesh.policy(key).is_none()),
                }
            }
            // A policy that is in scope and named as well is asked twice.
            for list in [&mut notes, &mut expected_notes] {
                list.sort();
                list.dedup();
            }
            prop_assert_eq!(notes, expected_notes);

            let told = explain_authorize(&mesh, workload, &facts);
            prop_assert_eq!(told.allowed, decision.verdict == Verdict::Allow);
            // Who asks all policies and who asks those that are found hear the same, in the same order.
            let reason = match (&decision.verdict, &decision.allowed_by) {
                (Verdict::Deny(reason), _) => reason.to_string(),
                (Verdict::Allow, Some(key)) => format!("allowed by: {key}"),
                (Verdict::Allow, None) => "no allow policies exist, and none denied".into(),
            };
            prop_assert_eq!(&told.reason, &reason);
            let with_policy = |note: &Note| note.policy().map_or_else(|| note.to_string(), |key| format!("{note}: {key}"));
            prop_assert_eq!(&told.notes, &decision.notes.iter().map(with_policy).collect::<Vec<_>>());
            for asked in &told.policies {
                let policy = policies.iter().find(|p| *asked.policy == format!("{}/{}", p.namespace, p.name)).unwrap();
                prop_assert_eq!(asked.matched, oracle::policy_matches(policy, c));
            }
        }
    }
}
