//! Every refusal, in both directions: who says what, and which alert the other end hears.

use super::*;
use crate::tls::PrivateKey;
use crate::tls::testing::{
    Authority, CLIENT, End, Leaf, SERVER, carry_whole, identity, lax_client, lax_server,
};
use crate::tls::trust::{MAX_CERTIFICATE, spiffe_name};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::SanType;

/// What a peer shows, what is said of it, and what it is told.
struct Refusal {
    case: &'static str,
    chain: Vec<CertificateDer<'static>>,
    reason: &'static str,
    alert: &'static str,
    text: String,
}

fn refusal(
    case: &'static str,
    chain: Vec<CertificateDer<'static>>,
    reason: &'static str,
    alert: &'static str,
    text: impl Into<String>,
) -> Refusal {
    Refusal {
        case,
        chain,
        reason,
        alert,
        text: text.into(),
    }
}

/// What is wrong whoever shows it. `name` is right, `key` signs the handshake.
fn bad_chains(root: &Authority, name: &str, key: &PrivateKey) -> Vec<Refusal> {
    let other_key = PrivateKey::generate().unwrap();
    let sign = |leaf: Leaf| root.sign(&leaf, key);
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let good = sign(Leaf::named(name));
    let between = root.intermediate("between");
    let mut long = good.clone();
    long.extend(std::iter::repeat_n(
        between.sign(&Leaf::named(name), key)[1].clone(),
        10,
    ));
    let deep = (0..8).fold(root.intermediate("0"), |above, i| {
        above.intermediate(&i.to_string())
    });
    let unknown = "not signed by a root we hold";
    vec![
        refusal(
            "unknown root",
            Authority::root("stranger").sign(&Leaf::named(name), key),
            "unknown_root",
            "peer_alert:unknown_ca",
            unknown,
        ),
        refusal(
            "unknown root of the same name",
            Authority::root("mesh root").sign(&Leaf::named(name), key),
            "unknown_root",
            "peer_alert:unknown_ca",
            unknown,
        ),
        refusal(
            "intermediate withheld",
            between.sign(&Leaf::named(name), key)[..1].to_vec(),
            "unknown_root",
            "peer_alert:unknown_ca",
            unknown,
        ),
        refusal(
            "expired",
            sign(Leaf::named(name).until_year(2001)),
            "expired",
            "peer_alert:certificate_expired",
            "peer's certificate expired at 2001-01-01T00:00:00Z; now it is 20",
        ),
        refusal(
            "not yet valid",
            sign(Leaf::named(name).since_year(2090)),
            "not_yet_valid",
            "peer_alert:certificate_expired",
            "peer's certificate is not valid before 2090-01-01T00:00:00Z; now it is 20",
        ),
        refusal(
            "no name",
            sign(Leaf::nameless()),
            "no_spiffe_name",
            "peer_alert:certificate_unknown",
            "peer's certificate has no SPIFFE name",
        ),
        refusal(
            "a DNS name only",
            sign(Leaf::nameless().and(SanType::DnsName("web".try_into().unwrap()))),
            "no_spiffe_name",
            "peer_alert:certificate_unknown",
            "peer's certificate has no SPIFFE name",
        ),
        refusal(
            "a web address",
            sign(Leaf::named("https://example.com/")),
            "no_spiffe_name",
            "peer_alert:certificate_unknown",
            "peer's certificate has no SPIFFE name, got https://example.com/",
        ),
        refusal(
            "a SPIFFE ID of another form",
            sign(Leaf::named("spiffe://cluster.local/ns//sa/x")),
            "no_spiffe_name",
            "peer_alert:certificate_unknown",
            "peer's certificate has no SPIFFE name, got spiffe://cluster.local/ns//sa/x",
        ),
        refusal(
            "the right name and another",
            sign(Leaf::named(name).and(uri("spiffe://evil/ns/a/sa/b"))),
            "multiple_names",
            "peer_alert:certificate_unknown",
            format!("SPIFFE allows one, got {name},spiffe://evil/ns/a/sa/b"),
        ),
        refusal(
            "the right name twice",
            sign(Leaf::named(name).and(uri(name))),
            "multiple_names",
            "peer_alert:certificate_unknown",
            "peer's certificate has several URI names",
        ),
        refusal(
            "someone else's certificate",
            root.sign(&Leaf::named(name), &other_key),
            "bad_signature",
            "peer_alert:decrypt_error",
            "peer does not hold the key of its certificate",
        ),
        refusal(
            "more certificates than are looked at",
            long,
            "chain_too_long",
            "peer_alert:certificate_unknown",
            "peer's chain is too long (limit 10): 11",
        ),
        refusal(
            "a path deeper than is searched",
            deep.sign(&Leaf::named(name), key),
            "chain_too_long",
            "peer_alert:certificate_unknown",
            "peer's chain is too long",
        ),
        refusal(
            "no certificate at all but bytes",
            vec![CertificateDer::from(b"hello".to_vec())],
            "bad_certificate",
            "peer_alert:bad_certificate",
            "peer's certificate cannot be used: malformed",
        ),
        refusal(
            "a certificate larger than is looked at",
            vec![
                good[0].clone(),
                CertificateDer::from(vec![0x30; MAX_CERTIFICATE + 1]),
            ],
            "bad_certificate",
            "peer_alert:bad_certificate",
            "peer's certificate cannot be used: malformed",
        ),
    ]
}

fn judge(refuser: &End, refused: &End, refusal: &Refusal) {
    let case = refusal.case;
    assert_eq!(refuser.reason(), refusal.reason, "{case}");
    assert_eq!(refused.reason(), refusal.alert, "{case}");
    let text = refuser.error.as_ref().unwrap().to_string();
    assert!(
        text.starts_with("tls handshake error: identity verification error: "),
        "{case}: {text}"
    );
    assert!(text.contains(&refusal.text), "{case}: {text}");
    assert_eq!(refuser.session.peer(), None, "{case}");
}

#[test]
fn a_server_refuses_clients_each_for_its_own_reason() {
    let root = Authority::root("mesh root");
    let key = PrivateKey::generate().unwrap();
    let stranger = "spiffe://other.domain/ns/shop/sa/client";
    let mut table = bad_chains(&root, CLIENT, &key);
    table.extend([
        refusal(
            "no certificate",
            Vec::new(),
            "no_certificate",
            "peer_alert:certificate_required",
            "peer sent no certificate",
        ),
        refusal(
            "wrong trust domain",
            root.sign(&Leaf::named(stranger), &key),
            "wrong_trust_domain",
            "peer_alert:certificate_unknown",
            format!(
                "peer did not present the expected trustdomain (cluster.local), got {stranger}"
            ),
        ),
        refusal(
            "for servers only",
            root.sign(&Leaf::named(CLIENT).only_for(&[ServerAuth]), &key),
            "wrong_purpose",
            "peer_alert:unsupported_certificate",
            "does not allow this side",
        ),
    ]);
    let server = root.certificate(SERVER);
    for refusal in table {
        let mut client = End::client(lax_client(refusal.chain.clone(), &key));
        let mut server = End::server(server.server());
        carry_whole(&mut client, &mut server);
        judge(&server, &client, &refusal);
    }
}

#[test]
fn a_client_refuses_servers_each_for_its_own_reason() {
    let root = Authority::root("mesh root");
    let key = PrivateKey::generate().unwrap();
    let mut table = bad_chains(&root, SERVER, &key);
    let (other, elsewhere) = (
        "spiffe://cluster.local/ns/shop/sa/other",
        "spiffe://other.domain/ns/shop/sa/server",
    );
    for name in [other, elsewhere] {
        table.push(refusal(
            "wrong name",
            root.sign(&Leaf::named(name), &key),
            "wrong_san",
            "peer_alert:certificate_unknown",
            format!("peer did not present the expected SAN ({SERVER},{CLIENT}), got {name}"),
        ));
    }
    table.push(refusal(
        "for clients only",
        root.sign(&Leaf::named(SERVER).only_for(&[ClientAuth]), &key),
        "wrong_purpose",
        "peer_alert:unsupported_certificate",
        "does not allow this side",
    ));
    let client = root.certificate(CLIENT);
    let expected = [identity(SERVER), identity(CLIENT)];
    for refusal in table {
        let mut client = End::client(client.client(&expected));
        let mut server = End::server(lax_server(refusal.chain.clone(), &key));
        carry_whole(&mut client, &mut server);
        judge(&client, &server, &refusal);
    }
}

#[test]
fn who_expects_nobody_refuses_everybody() {
    let root = Authority::root("root");
    let mut client = End::client(root.certificate(CLIENT).client(&[]));
    let mut server = End::server(root.certificate(SERVER).server());
    carry_whole(&mut client, &mut server);
    assert_eq!(
        client.error.unwrap().to_string(),
        format!(
            "tls handshake error: identity verification error: peer did not present the expected SAN (), got {SERVER}"
        )
    );
}

#[test]
fn any_of_the_expected_will_do() {
    let root = Authority::root("root");
    let expected = [identity(CLIENT), identity(SERVER)];
    let mut client = End::client(root.certificate(CLIENT).client(&expected));
    let mut server = End::server(root.certificate(SERVER).server());
    carry_whole(&mut client, &mut server);
    assert_eq!((client.reason(), server.reason()), ("none", "none"));
    assert_eq!(client.session.peer(), Some(&identity(SERVER)));
    assert_eq!(server.session.peer(), Some(&identity(CLIENT)));
}

#[test]
fn a_name_in_the_log_is_short_and_printable() {
    let root = Authority::root("root");
    let key = PrivateKey::generate().unwrap();
    let long = format!("spiffe://x/\u{1b}[31m{}", "y".repeat(4000));
    let chain = root.sign(&Leaf::named(&long), &key);
    let text = spiffe_name(&chain[0]).unwrap_err().to_string();
    assert!(text.len() < 300 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn reasons_survive_the_way_through_rustls() {
    let all = [
        VerifyError::BadCertificate,
        VerifyError::BadSignature,
        VerifyError::ChainTooLong(12),
        VerifyError::Expired(2, 1),
        VerifyError::MultipleNames(vec!["a".into()]),
        VerifyError::NoSpiffeName(Some("b".into())),
        VerifyError::NotYetValid(1, 2),
        VerifyError::UnknownRoot,
        VerifyError::WrongPurpose,
        VerifyError::WrongSan {
            want: [].into(),
            got: identity(CLIENT),
        },
        VerifyError::WrongTrustDomain {
            want: identity(SERVER).trust_domain,
            got: identity(CLIENT),
        },
    ];
    for error in all {
        let rustls::Error::InvalidCertificate(carried) = error.clone().into() else {
            panic!("a certificate error")
        };
        assert_eq!(VerifyError::of_rustls(&carried), error);
    }
}
