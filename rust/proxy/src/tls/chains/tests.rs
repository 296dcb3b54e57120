use std::time::Duration;

use super::super::config;
use super::super::testing::{Authority, CLIENT, End, Leaf, SERVER, carry_whole, identity};
use super::super::trust::Trust;
use super::super::verify::VerifyError;
use super::super::{PrivateKey, WorkloadCertificate};
use super::*;
use crate::settings::Groups;

/// Seconds since 1970 at the beginning of a year, as far as leap days matter here.
fn year(year: u64) -> UnixTime {
    let days = (year - 1970) * 365 + (year - 1969) / 4;
    UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400))
}

fn trust(roots: &[&Authority]) -> Trust {
    let anchors = roots.iter().map(|root| root.anchor()).collect();
    Trust::new(
        anchors,
        config::provider(Groups::All).signature_verification_algorithms,
    )
}

struct Peer {
    root: Authority,
    key: PrivateKey,
}

impl Peer {
    fn new() -> Self {
        Self {
            root: Authority::root("mesh root"),
            key: PrivateKey::generate().unwrap(),
        }
    }

    fn chain(&self, leaf: &Leaf) -> Vec<CertificateDer<'static>> {
        self.root.sign(leaf, &self.key)
    }
}

fn check(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Use,
) -> Result<Identity, VerifyError> {
    trust.peer(&chain[0], &chain[1..], now, usage)
}

#[test]
fn a_chain_that_passed_passes_again_from_memory() {
    let peer = Peer::new();
    let trust = trust(&[&peer.root]);
    let chain = peer.chain(&Leaf::named(CLIENT));
    for _ in 0..3 {
        let got = check(&trust, &chain, year(2026), Use::Client);
        assert_eq!(got, Ok(identity(CLIENT)));
        assert_eq!(trust.verified().len(), 1);
    }
}

#[test]
fn a_chain_that_expired_in_memory_is_refused_with_the_full_reason() {
    let peer = Peer::new();
    let trust = trust(&[&peer.root]);
    let chain = peer.chain(&Leaf::named(CLIENT).since_year(2025).until_year(2027));
    assert!(check(&trust, &chain, year(2026), Use::Client).is_ok());
    let late = check(&trust, &chain, year(2028), Use::Client);
    assert!(matches!(late, Err(VerifyError::Expired(..))), "{late:?}");
    assert_eq!(trust.verified().len(), 0);
    // A clock that was set back before the beginning.
    assert!(check(&trust, &chain, year(2026), Use::Client).is_ok());
    let early = check(&trust, &chain, year(2024), Use::Client);
    assert!(
        matches!(early, Err(VerifyError::NotYetValid(..))),
        "{early:?}"
    );
}

#[test]
fn the_last_second_of_validity_counts_and_the_next_does_not() {
    let peer = Peer::new();
    let trust = trust(&[&peer.root]);
    let chain = peer.chain(&Leaf::named(CLIENT).since_year(2025).until_year(2027));
    let last = u64::try_from(Validity::of(&chain[0]).unwrap().not_after).unwrap();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for _ in 0..2 {
        assert!(check(&trust, &chain, at(last), Use::Client).is_ok());
    }
    assert!(check(&trust, &chain, at(last + 1), Use::Client).is_err());
}

#[test]
fn an_intermediate_that_expires_first_ends_the_memory() {
    let root = Authority::root("mesh root");
    let between = root.intermediate_until("between", 2027);
    let key = PrivateKey::generate().unwrap();
    let chain = between.sign(&Leaf::named(CLIENT), &key);
    let trust = trust(&[&root]);
    assert!(check(&trust, &chain, year(2026), Use::Client).is_ok());
    assert_eq!(trust.verified().len(), 1);
    let late = check(&trust, &chain, year(2028), Use::Client);
    assert!(matches!(late, Err(VerifyError::Expired(..))), "{late:?}");
}

#[test]
fn another_leaf_of_the_same_key_is_checked_for_itself() {
    let peer = Peer::new();
    let trust = trust(&[&peer.root]);
    let good = peer.chain(&Leaf::named(CLIENT));
    assert!(check(&trust, &good, year(2026), Use::Client).is_ok());
    // Same key, signed by somebody else.
    let other = Authority::root("mesh root");
    let forged = other.sign(&Leaf::named(CLIENT), &peer.key);
    let got = check(&trust, &forged, year(2026), Use::Client);
    assert_eq!(got, Err(VerifyError::UnknownRoot));
    // Same key, another name: its own name, not the remembered one.
    let renamed = peer.chain(&Leaf::named(SERVER));
    let got = check(&trust, &renamed, year(2026), Use::Client);
    assert_eq!(got, Ok(identity(SERVER)));
}

#[test]
fn a_byte_changed_in_a_remembered_leaf_is_another_leaf() {
    let peer = Peer::new();
    let trust = trust(&[&peer.root]);
    let chain = peer.chain(&Leaf::named(CLIENT));
    assert!(check(&trust, &chain, year(2026), Use::Client).is_ok());
    let mut bytes = chain[0].to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1; // in the signature
    let changed = [CertificateDer::from(bytes)];
    assert!(check(&trust, &changed, year(2026), Use::Client).is_err());
}

#[test]
fn a_remembered_leaf_with_other_intermediates_is_checked_again() {
    let root = Authority::root("mesh root");
    let (right, wrong) = (root.intermediate("right"), root.intermediate("wrong"));
    let key = PrivateKey::generate().unwrap();
    let chain = right.sign(&Leaf::named(CLIENT), &key);
    let other = wrong.sign(&Leaf::named(CLIENT), &key);
    let trust = trust(&[&root]);
    assert!(check(&trust, &chain, year(2026), Use::Client).is_ok());
    let mismatched = [chain[0].clone(), other[1].clone()];
    let got = check(&trust, &mismatched, year(2026), Use::Client);
    assert_eq!(got, Err(VerifyError::UnknownRoot));
    let alone = [chain[0].clone()];
    let got = check(&trust, &alone, year(2026), Use::Client);
    assert_eq!(got, Err(VerifyError::UnknownRoot));
}

#[test]
fn certificates_cannot_be_cut_elsewhere_to_the_same_fingerprint() {
    let cut = |at: usize| {
        let bytes = [7; 20];
        let (one, two) = bytes.split_at(at);
        let (one, two) = (one.to_vec().into(), [two.to_vec().into()]);
        Fingerprint::of(Use::Client, &one, &two).0
    };
    assert_ne!(cut(9), cut(10));
    assert_eq!(cut(9), cut(9));
}

#[test]
fn what_passed_for_one_use_is_checked_for_the_other() {
    use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
    let peer = Peer::new();
    let trust = trust(&[&peer.root]);
    let chain = peer.chain(&Leaf::named(CLIENT).only_for(&[ClientAuth]));
    assert!(check(&trust, &chain, year(2026), Use::Client).is_ok());
    let got = check(&trust, &chain, year(2026), Use::Server);
    assert_eq!(got, Err(VerifyError::WrongPurpose));
}

#[test]
fn a_refusal_is_not_remembered() {
    let peer = Peer::new();
    let trust = trust(&[&Authority::root("another root")]);
    let chain = peer.chain(&Leaf::named(CLIENT));
    assert!(check(&trust, &chain, year(2026), Use::Client).is_err());
    assert_eq!(trust.verified().len(), 0);
}

fn handshake(
    client: &WorkloadCertificate,
    server: &WorkloadCertificate,
    expected: &str,
) -> (End, End) {
    let mut dialling = End::client(client.client(&[identity(expected)]));
    let mut accepting = End::server(server.server());
    carry_whole(&mut dialling, &mut accepting);
    (dialling, accepting)
}

#[test]
fn other_roots_begin_with_an_empty_memory() {
    let (mesh, next) = (Authority::root("mesh root"), Authority::root("next root"));
    let client = mesh.certificate(CLIENT);
    let key = PrivateKey::generate().unwrap();
    let server = |roots: &Authority| {
        let chain = super::super::testing::pem(&roots.sign(&Leaf::named(SERVER), &key));
        let roots = roots.root_pem().as_bytes();
        WorkloadCertificate::new(identity(SERVER), &key, chain.as_bytes(), roots).unwrap()
    };
    let before = server(&mesh);
    for _ in 0..2 {
        let (_, accepting) = handshake(&client, &before, SERVER);
        assert_eq!(accepting.session.peer(), Some(&identity(CLIENT)));
    }
    assert_eq!(before.trust().verified().len(), 1);
    // Renewed with roots that do not include the client's signer any more.
    let after = server(&next);
    let lax = super::super::testing::lax_client(mesh.sign(&Leaf::named(CLIENT), &key), &key);
    let mut dialling = End::client(lax);
    let mut accepting = End::server(after.server());
    carry_whole(&mut dialling, &mut accepting);
    assert_eq!(accepting.reason(), "unknown_root");
    assert_eq!(after.trust().verified().len(), 0);
}

#[test]
fn whom_we_expect_is_asked_in_every_handshake() {
    let root = Authority::root("mesh root");
    let (client, server) = (root.certificate(CLIENT), root.certificate(SERVER));
    let (dialling, _) = handshake(&client, &server, SERVER);
    assert_eq!(dialling.session.peer(), Some(&identity(SERVER)));
    let (dialling, _) = handshake(&client, &server, CLIENT);
    assert_eq!(dialling.reason(), "wrong_san");
}

#[test]
fn a_remembered_chain_without_its_key_is_refused() {
    let root = Authority::root("mesh root");
    let (client, key) = (root.certificate(CLIENT), PrivateKey::generate().unwrap());
    let chain = root.sign(&Leaf::named(SERVER), &key);
    let good = super::super::testing::lax_server(chain.clone(), &key);
    let thief = super::super::testing::lax_server(chain, &PrivateKey::generate().unwrap());
    for (server, reason) in [(good, "none"), (thief, "bad_signature")] {
        let mut dialling = End::client(client.client(&[identity(SERVER)]));
        let mut accepting = End::server(server);
        carry_whole(&mut dialling, &mut accepting);
        assert_eq!(dialling.reason(), reason);
    }
}

#[test]
fn names_are_noted_for_as_many_handshakes_as_promised() {
    let peer = Peer::new();
    let leaves: Vec<_> = (0..HANDSHAKES + 1)
        .map(|number| {
            let name = format!("spiffe://cluster.local/ns/shop/sa/{number}");
            (peer.chain(&Leaf::named(&name)).remove(0), identity(&name))
        })
        .collect();
    for (leaf, name) in &leaves {
        note(leaf, name);
        note(leaf, name);
    }
    assert_eq!(recall(&leaves[0].0), None);
    for (leaf, name) in &leaves[1..] {
        assert_eq!(recall(leaf).as_ref(), Some(name));
    }
}

/// `cargo test --release -p proxy --lib -- --ignored --nocapture what_a_handshake_costs`
///
/// CPU of both ends together, without sockets; medians of alternating rounds.
#[test]
#[ignore = "a measurement"]
fn what_a_handshake_costs() {
    const ROUNDS: usize = 41;
    const TIMES: u64 = 20;
    let root = Authority::root("mesh root");
    let below = root.intermediate("mesh intermediate");
    for (name, authority) in [("root", &root), ("intermediate", &below)] {
        let (client, server) = (authority.certificate(CLIENT), authority.certificate(SERVER));
        let mut medians = [true, false].map(|forget| (forget, Vec::new()));
        for _ in 0..ROUNDS {
            for (forget, rounds) in &mut medians {
                let begun = cpu_nanoseconds();
                for _ in 0..TIMES {
                    if *forget {
                        client.trust().verified().forget();
                        server.trust().verified().forget();
                        READ.take();
                    }
                    let (dialling, _) = handshake(&client, &server, SERVER);
                    assert_eq!(dialling.reason(), "none");
                }
                rounds.push((cpu_nanoseconds() - begun) / TIMES / 1000);
            }
        }
        for (forget, mut rounds) in medians {
            rounds.sort_unstable();
            let memory = if forget { "no memory" } else { "memory" };
            println!("signed by {name}, {memory}: {} us", rounds[ROUNDS / 2]);
        }
    }
}

/// What this thread has used so far (proc_pid_schedstat(5), first field).
fn cpu_nanoseconds() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}
