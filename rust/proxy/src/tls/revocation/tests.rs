use std::time::Duration;

use rcgen::SerialNumber;

use super::*;
use crate::tls::testing::{
    Authority, CLIENT, End, Leaf, SERVER, carry_whole, identity, pem, serial,
};
use crate::tls::{PrivateKey, WorkloadCertificate};

fn list(content: impl AsRef<[u8]>) -> RevocationList {
    RevocationList::read(content.as_ref()).unwrap()
}

fn crl_of(authority: &Authority, revoked: &[SerialNumber]) -> String {
    authority.crl(revoked).pem().unwrap()
}

/// A certificate, its chain, and what it heeds.
struct Node {
    certificate: WorkloadCertificate,
    chain: Vec<CertificateDer<'static>>,
    revocations: Arc<Revocations>,
}

impl Node {
    fn new(name: &str, signer: &Authority) -> Self {
        let key = PrivateKey::generate().unwrap();
        let chain = signer.sign(&Leaf::named(name), &key);
        let text = pem(&chain);
        let roots = signer.root_pem();
        let certificate =
            WorkloadCertificate::new(identity(name), &key, text.as_bytes(), roots.as_bytes());
        let node = Self {
            certificate: certificate.unwrap(),
            chain,
            revocations: Arc::default(),
        };
        node.certificate.heed(&node.revocations);
        node
    }

    fn serial(&self) -> SerialNumber {
        serial(&self.chain[0])
    }
}

/// How a handshake ends for the client and for the server.
fn meet(client: &Node, server: &Node) -> (End, End) {
    let mut a = End::client(client.certificate.client(&[identity(SERVER)]));
    let mut b = End::server(server.certificate.server());
    carry_whole(&mut a, &mut b);
    (a, b)
}

fn reasons(client: &Node, server: &Node) -> (&'static str, &'static str) {
    let (a, b) = meet(client, server);
    (a.reason(), b.reason())
}

#[test]
fn a_list_is_read_in_every_form_that_files_have() {
    let (one, other) = (Authority::root("one"), Authority::root("other"));
    let serials: Vec<_> = (1..=3).map(SerialNumber::from).collect();
    let (first, second) = (crl_of(&one, &serials), crl_of(&other, &serials[..1]));
    let der = one.crl(&serials);
    let certificate = one.root_pem();
    for (form, content, lists, count) in [
        ("nothing", String::new(), 0, 0),
        ("blanks", " \r\n\n".to_owned(), 0, 0),
        ("certificates only", certificate.to_owned(), 0, 0),
        ("one", first.clone(), 1, 3),
        ("one that names nobody", crl_of(&one, &[]), 1, 0),
        ("two", format!("{first}{second}"), 2, 4),
        ("CRLF", first.replace('\n', "\r\n"), 1, 3),
        ("no last line end", first.trim_end().to_owned(), 1, 3),
        (
            "remarks and a certificate between",
            format!("# old\n{first}\n{certificate}\nnew:\n{second}"),
            2,
            4,
        ),
    ] {
        let read = list(content);
        assert_eq!((read.lists(), read.serials()), (lists, count), "{form}");
    }
    let read = list(der.der());
    assert_eq!((read.lists(), read.serials()), (1, 3), "DER");
}

#[test]
fn what_is_no_list_is_refused_each_with_its_own_reason() {
    let root = Authority::root("root");
    let good = crl_of(&root, &[SerialNumber::from(7)]);
    let der = root.crl(&[]).der().to_vec();
    let relabelled = root.root_pem().replace("CERTIFICATE", "X509 CRL");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("text", b"no list".to_vec(), "neither PEM"),
        ("bytes", vec![0xff; 64], "neither PEM"),
        (
            "cut PEM",
            good.as_bytes()[..good.len() / 2].to_vec(),
            "damaged",
        ),
        (
            "broken base64",
            good.replacen("MI", "!!", 1).into_bytes(),
            "damaged",
        ),
        ("cut DER", der[..der.len() - 1].to_vec(), "list 1 of"),
        (
            "more behind the DER",
            [&der[..], b"x"].concat(),
            "list 1 of",
        ),
        (
            "a certificate that claims to be one",
            format!("{good}{relabelled}").into_bytes(),
            "list 2 of",
        ),
        ("too much", vec![b' '; MAX_FILE + 1], "too large (limit"),
    ];
    for (case, content, error) in cases {
        let got = RevocationList::read(&content).unwrap_err().to_string();
        assert!(got.contains(error), "{case}: {got}");
    }
}

#[test]
fn the_revoked_are_refused_on_both_sides_and_others_are_not() {
    let root = Authority::root("root");
    let (client, server) = (Node::new(CLIENT, &root), Node::new(SERVER, &root));
    let other = Node::new(CLIENT, &root);
    assert_eq!(reasons(&client, &server), ("none", "none"));

    server
        .revocations
        .replace(list(crl_of(&root, &[client.serial()])));
    // It has passed before, and is in memory as such.
    assert_eq!(
        reasons(&client, &server),
        ("peer_alert:certificate_revoked", "revoked")
    );
    assert_eq!(reasons(&other, &server), ("none", "none"));

    server.revocations.replace(list(""));
    assert_eq!(reasons(&client, &server), ("none", "none"));

    client
        .revocations
        .replace(list(crl_of(&root, &[server.serial()])));
    assert_eq!(
        reasons(&client, &server),
        ("revoked", "peer_alert:certificate_revoked")
    );
}

#[test]
fn who_is_signed_by_a_revoked_signer_is_refused_whoever_else_it_signed() {
    let root = Authority::root("root");
    let (good, bad) = (root.intermediate("good"), root.intermediate("bad"));
    let server = Node::new(SERVER, &good);
    let list = list(crl_of(&root, &[serial(bad.der())]));
    server.revocations.replace(list);
    for (signer, reason) in [(&good, "none"), (&bad, "revoked"), (&bad, "revoked")] {
        assert_eq!(reasons(&Node::new(CLIENT, signer), &server).1, reason);
    }
}

#[test]
fn a_list_of_another_authority_of_the_same_name_changes_nothing() {
    let (root, namesake) = (Authority::root("root"), Authority::root("root"));
    let (client, server) = (Node::new(CLIENT, &root), Node::new(SERVER, &root));
    let theirs = crl_of(&namesake, &[client.serial()]);
    server.revocations.replace(list(&theirs));
    assert_eq!(reasons(&client, &server), ("none", "none"));
    // Nor does it hide the authority's own.
    let ours = crl_of(&root, &[client.serial()]);
    for content in [format!("{theirs}{ours}"), format!("{ours}{theirs}")] {
        server.revocations.replace(list(content));
        assert_eq!(reasons(&client, &server).1, "revoked");
    }
}

#[test]
fn a_listed_certificate_that_nobody_needs_changes_nothing() {
    let root = Authority::root("root");
    let needless = root.intermediate("needless");
    let (key, server) = (PrivateKey::generate().unwrap(), Node::new(SERVER, &root));
    let mut chain = root.sign(&Leaf::named(CLIENT), &key);
    chain.push(needless.der().clone());
    server
        .revocations
        .replace(list(crl_of(&root, &[serial(needless.der())])));
    let text = pem(&chain);
    let roots = root.root_pem().as_bytes();
    let certificate =
        WorkloadCertificate::new(identity(CLIENT), &key, text.as_bytes(), roots).unwrap();
    let mut a = End::client(certificate.client(&[identity(SERVER)]));
    let mut b = End::server(server.certificate.server());
    carry_whole(&mut a, &mut b);
    assert_eq!((a.reason(), b.reason()), ("none", "none"));
}

/// Nothing of what a peer shows beside its chain has to be signed by anybody: dead ends must not say why it is refused.
#[test]
fn whatever_else_the_revoked_show_they_are_refused() {
    let root = Authority::root("root");
    let signer = root.intermediate("signer");
    let forged = |name| {
        let expired = vec![Authority::root_until(name, 2021).der().clone()];
        let crowd = || Authority::root(name).der().clone();
        [expired, (0..6).map(|_| crowd()).collect::<Vec<_>>()]
    };
    for (authority, dead_ends) in [(&root, forged("root")), (&signer, forged("signer"))] {
        let server = Node::new(SERVER, &root);
        let client = Node::new(CLIENT, authority);
        let trust = server.certificate.trust();
        let list = list(crl_of(authority, &[client.serial()]));
        server.revocations.replace(list);
        for ends in dead_ends {
            let shown = [&client.chain[1..], &ends[..]].concat();
            let now = UnixTime::now();
            let outcome = trust.peer(&client.chain[0], &shown, now, Use::Client);
            assert_eq!(outcome, Err(crate::tls::VerifyError::Revoked));
            let chain = [&client.chain[..1], &shown[..]].concat();
            let late = trust.standing(&chain, Use::Client);
            assert!(matches!(late, Err(crate::tls::VerifyError::Revoked)));
        }
    }
}

#[test]
fn who_has_two_ways_to_a_root_is_refused_when_both_are_cut() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let signer = old.intermediate("signer");
    let client = Node::new(CLIENT, &signer);
    let [leaf, by_old] = &client.chain[..] else {
        panic!("a leaf and its signer");
    };
    let by_new = new.cross(&signer, "signer");
    let anchors = Anchors::new(
        vec![old.anchor(), new.anchor()],
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
    );
    let old_list = crl_of(&old, &[serial(by_old)]);
    let new_list = crl_of(&new, &[serial(&by_new)]);
    let both = format!("{old_list}{new_list}");
    for (content, by_the_old, by_the_new, by_both) in [
        ("", false, false, false),
        (&*old_list, true, false, false),
        (&*new_list, false, true, false),
        (&*both, true, true, true),
    ] {
        let list = list(content);
        let revokes = |intermediates: &[CertificateDer<'_>]| {
            let usage = Use::Client;
            let shown = Shown {
                leaf,
                intermediates,
                usage,
            };
            list.revokes(&anchors, &shown, UnixTime::now())
        };
        let (a, b) = (by_old.clone(), by_new.clone());
        assert_eq!(revokes(std::slice::from_ref(&a)), by_the_old, "{content}");
        assert_eq!(revokes(std::slice::from_ref(&b)), by_the_new, "{content}");
        for several in [[a.clone(), b.clone()], [b, a]] {
            assert_eq!(revokes(&several), by_both, "{content}");
        }
    }
}

#[test]
fn whatever_else_the_revoked_show_the_lists_are_looked_through_once() {
    let root = Authority::root("root");
    let client = Node::new(CLIENT, &root);
    let revocations = &client.revocations;
    revocations.replace(list(crl_of(&root, &[client.serial()])));
    for number in 0..5 {
        let junk = Authority::root(&format!("junk {number}"));
        let shown = [junk.der().clone()];
        let trust = client.certificate.trust();
        let outcome = trust.peer(&client.chain[0], &shown, UnixTime::now(), Use::Client);
        assert_eq!(outcome, Err(crate::tls::VerifyError::Revoked));
    }
    assert_eq!(revocations.current().verdicts().0.len(), 1);
}

#[test]
fn a_live_connection_is_found_by_a_later_list_and_only_if_it_is_tracked() {
    let root = Authority::root("root");
    let (client, server) = (Node::new(CLIENT, &root), Node::new(SERVER, &root));
    let (_, early) = meet(&client, &server);
    assert!(early.session.standing().is_none(), "before anybody asked");

    server.revocations.replace(list(""));
    client.revocations.replace(list(""));
    let (a, b) = meet(&client, &server);
    let (theirs, ours) = (a.session.standing().unwrap(), b.session.standing().unwrap());
    let revoked = |serial| list(crl_of(&root, &[serial]));
    assert!(ours.is_revoked_by(&revoked(client.serial())));
    assert!(!ours.is_revoked_by(&revoked(server.serial())));
    assert!(theirs.is_revoked_by(&revoked(server.serial())));
    assert!(!theirs.is_revoked_by(&revoked(client.serial())));
    assert!(!ours.is_revoked_by(&list("")));
}

#[test]
fn what_has_expired_since_is_still_found() {
    let root = Authority::root("root");
    let client = Node::new(CLIENT, &root);
    let shown = &client.chain[..];
    let trust = client.certificate.trust();
    trust.standing(shown, Use::Client).unwrap();
    client.revocations.replace(list(""));
    let mut standing = trust.standing(shown, Use::Client).unwrap().unwrap();
    let listed = list(crl_of(&root, &[client.serial()]));
    // A time at which the path is good; what the clock says now is not asked.
    standing.since = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
    assert!(standing.is_revoked_by(&listed));
}

#[test]
fn a_list_that_comes_during_a_handshake_is_heeded_at_its_end() {
    let root = Authority::root("root");
    let (client, server) = (Node::new(CLIENT, &root), Node::new(SERVER, &root));
    server.revocations.replace(list(""));
    let trust = server.certificate.trust();
    let now = UnixTime::now();
    assert!(trust.peer(&client.chain[0], &[], now, Use::Client).is_ok());
    server
        .revocations
        .replace(list(crl_of(&root, &[client.serial()])));
    let late = trust.standing(&client.chain, Use::Client);
    assert!(matches!(late, Err(crate::tls::VerifyError::Revoked)));
}

#[test]
fn a_list_of_ten_megabytes_is_read_and_asked_in_no_time_worth_naming() {
    const NAMED: u64 = 300_000;
    let root = Authority::root("root");
    let (client, server) = (Node::new(CLIENT, &root), Node::new(SERVER, &root));
    let mut serials: Vec<_> = (0..NAMED)
        .map(|number| SerialNumber::from(number << 24))
        .collect();
    serials.push(client.serial());
    let content = crl_of(&root, &serials);
    assert!(content.len() > 10_000_000, "{}", content.len());
    let list = list(&content);
    assert_eq!(list.serials(), serials.len());
    server.revocations.replace(list);
    // The first is looked up in the whole list, the others are remembered; who is not named is known by the index.
    for _ in 0..3 {
        assert_eq!(reasons(&client, &server).1, "revoked");
        assert_eq!(reasons(&Node::new(CLIENT, &root), &server).1, "none");
    }
}
