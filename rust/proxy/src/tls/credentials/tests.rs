use super::*;
use crate::tls::testing::{Authority, CLIENT, End, Leaf, SERVER, carry_whole, identity, pem};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::SanType;

fn join(
    chain: &str,
    key: &PrivateKey,
    roots: &str,
) -> Result<WorkloadCertificate, CredentialError> {
    WorkloadCertificate::new(identity(CLIENT), key, chain.as_bytes(), roots.as_bytes())
}

#[test]
fn a_chain_with_intermediates_is_taken_and_sent_whole() {
    let root = Authority::root("root");
    let below = root.intermediate("upper").intermediate("lower");
    let client = below.certificate(CLIENT);
    assert_eq!(client.dump().cert_chain.len(), 3);
    assert_eq!(client.dump().root_certs.len(), 1);

    // The peer holds the root alone: it can only agree if the intermediates were sent.
    let mut a = End::client(client.client(&[identity(SERVER)]));
    let mut b = End::server(root.certificate(SERVER).server());
    carry_whole(&mut a, &mut b);
    assert_eq!(b.session.peer(), Some(&identity(CLIENT)));
    assert_eq!((a.reason(), b.reason()), ("none", "none"));
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let root = Authority::root("root");
    let (mine, other) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let chain = pem(&root.sign(&Leaf::named(CLIENT), &other));
    assert_eq!(
        join(&chain, &mine, root.root_pem()).unwrap_err(),
        CredentialError::OtherKey
    );
}

#[test]
fn each_bad_answer_of_a_ca_has_its_own_error() {
    let (root, stranger) = (Authority::root("root"), Authority::root("stranger"));
    let key = PrivateKey::generate().unwrap();
    let signed = |leaf: Leaf| pem(&root.sign(&leaf, &key));
    let good = signed(Leaf::named(CLIENT));
    let below = root.intermediate("between");
    let without_intermediate = pem(&below.sign(&Leaf::named(CLIENT), &key)[..1]);
    let two_names = Leaf::named(CLIENT).and(SanType::URI(SERVER.try_into().unwrap()));
    let broken = good.replacen("MII", "M!!", 1);
    let truncated = &good[..good.len() / 2];
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let expected_san = format!("did not find expected SAN: {CLIENT}, got ");
    let roots = root.root_pem();
    for (case, chain, roots, error) in [
        ("nothing", "", roots, "chain returned from CA is empty"),
        ("no PEM", "hello", roots, "chain returned from CA is empty"),
        ("truncated", truncated, roots, "invalid certificate chain: "),
        (
            "broken base64",
            &broken,
            roots,
            "invalid certificate chain: ",
        ),
        (
            "no X.509",
            not_x509,
            roots,
            "invalid certificate chain: not X.509",
        ),
        (
            "too many",
            &good.repeat(11),
            roots,
            "invalid certificate chain: more than 10",
        ),
        (
            "too large",
            &"\n".repeat(MAX_PEM + 1),
            roots,
            "PEM text is too large",
        ),
        (
            "large roots",
            &good,
            &"\n".repeat(MAX_PEM + 1),
            "PEM text is too large",
        ),
        (
            "no roots",
            &good,
            "",
            "invalid root certificate: no root certificate present",
        ),
        (
            "bad roots",
            &good,
            not_x509,
            "invalid root certificate: no root certificate present",
        ),
        (
            "other name",
            &signed(Leaf::named(SERVER)),
            roots,
            &expected_san,
        ),
        ("no name", &signed(Leaf::nameless()), roots, &expected_san),
        ("two names", &signed(two_names), roots, &expected_san),
        (
            "other root",
            &good,
            stranger.root_pem(),
            "the chain does not lead to a root",
        ),
        (
            "no intermediate",
            &without_intermediate,
            roots,
            "the chain does not lead to a root",
        ),
        (
            "for servers only",
            &signed(Leaf::named(CLIENT).only_for(&[ServerAuth])),
            roots,
            "the chain does not lead to a root of the bundle: wrong_purpose",
        ),
        (
            "for clients only",
            &signed(Leaf::named(CLIENT).only_for(&[ClientAuth])),
            roots,
            "the chain does not lead to a root of the bundle: wrong_purpose",
        ),
        (
            "ends before it begins",
            &signed(Leaf::named(CLIENT).since_year(2030).until_year(2020)),
            roots,
            "the chain does not lead to a root",
        ),
    ] {
        let text = join(chain, &key, roots).expect_err(case).to_string();
        assert!(text.starts_with(error), "{case}: {text}");
    }
}

#[test]
fn what_is_unusual_but_right_is_taken() {
    let root = Authority::root("root");
    let key = PrivateKey::generate().unwrap();
    let good = pem(&root.sign(&Leaf::named(CLIENT), &key));
    let any_use = pem(&root.sign(&Leaf::named(CLIENT).only_for(&[]), &key));
    let expired = pem(&root.sign(&Leaf::named(CLIENT).until_year(2001), &key));
    let future = pem(&root.sign(&Leaf::named(CLIENT).since_year(2090), &key));
    for (case, chain) in [
        ("CRLF", good.replace('\n', "\r\n")),
        ("no newline at the end", good.trim_end().to_owned()),
        ("text around", format!("subject: web\n{good}\n# end\n")),
        ("no extended key usage", any_use),
        ("expired: each handshake will say so", expired),
        ("not yet valid: the clock may be wrong", future),
    ] {
        join(&chain, &key, root.root_pem()).expect(case);
    }
}

#[test]
fn an_unusable_root_is_skipped_with_a_warning() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let key = PrivateKey::generate().unwrap();
    let chain = pem(&root.sign(&Leaf::named(CLIENT), &key));
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bundle = format!("{junk}{}{}", other.root_pem(), root.root_pem());
    let certificate = join(&chain, &key, &bundle).unwrap();
    assert_eq!(certificate.dump().root_certs.len(), 2);
    let [warning] = certificate.warnings() else {
        panic!("one warning")
    };
    assert!(warning.starts_with("root certificate 1 of the bundle is skipped: "));
}

#[test]
fn every_root_of_the_bundle_is_believed() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let both = format!("{}{}", old.root_pem(), new.root_pem());
    let client = old.certificate_of(CLIENT, &Leaf::named(CLIENT), &both);
    let server = new.certificate_of(SERVER, &Leaf::named(SERVER), &both);
    let mut a = End::client(client.client(&[identity(SERVER)]));
    let mut b = End::server(server.server());
    carry_whole(&mut a, &mut b);
    assert_eq!((a.reason(), b.reason()), ("none", "none"));
    assert_eq!(a.session.peer(), Some(&identity(SERVER)));
}

#[test]
fn configurations_are_made_once() {
    let certificate = Authority::root("root").certificate(CLIENT);
    assert!(Arc::ptr_eq(&certificate.server(), &certificate.server()));
    let (one, two) = (identity(SERVER), identity(CLIENT));
    let first = certificate.client(std::slice::from_ref(&one));
    assert!(Arc::ptr_eq(
        &first,
        &certificate.client(std::slice::from_ref(&one))
    ));
    assert!(!Arc::ptr_eq(&first, &certificate.client(&[one, two])));
}

#[test]
fn client_configurations_are_bounded() {
    let certificate = Authority::root("root").certificate(CLIENT);
    for i in 0..CLIENTS * 4 {
        let _ = certificate.client(&[Identity::new("td", "ns", &i.to_string()).unwrap()]);
    }
    assert!(certificate.clients.lock().unwrap().len() <= 2 * CLIENTS);
}

#[test]
fn validity_and_names_can_be_asked() {
    let root = Authority::root("root");
    let leaf = Leaf::named(CLIENT).since_year(1971).until_year(2100);
    let certificate = root.certificate_of(CLIENT, &leaf, root.root_pem());
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(certificate.not_before(), SystemTime::UNIX_EPOCH + 365 * day);
    assert_eq!(
        certificate.not_after(),
        SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800)
    );
    assert_eq!(certificate.identity(), &identity(CLIENT));
    let shown = format!("{certificate:?}");
    assert!(
        shown.contains(CLIENT) && shown.contains("2100-01-01"),
        "{shown}"
    );
    let dump = serde_json::to_value(certificate.dump()).unwrap();
    assert_eq!(dump["identity"], CLIENT);
    assert_eq!(dump["state"], "Available");
    assert_eq!(dump["certChain"][0]["validFrom"], "1971-01-01T00:00:00Z");
}

#[test]
fn a_replaced_certificate_serves_new_handshakes_only() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let both = format!("{}{}", old.root_pem(), new.root_pem());
    // Believes the old root alone, so it can tell which certificate it was shown.
    let client = old.certificate(CLIENT);
    let store = crate::tls::CredentialStore::new(RecordPlan::default());
    let dial = || {
        let mut a = End::client(client.client(&[identity(SERVER)]));
        let mut b = End::server(store.get(&identity(SERVER)).unwrap().server());
        carry_whole(&mut a, &mut b);
        (a, b)
    };

    store.install(old.certificate_of(SERVER, &Leaf::named(SERVER), &both));
    let (mut a, mut b) = dial();
    assert_eq!(a.reason(), "none");
    store.install(new.certificate_of(SERVER, &Leaf::named(SERVER), &both));
    assert_eq!(dial().0.reason(), "unknown_root");

    // The running connection notices nothing.
    b.say(b"still here");
    carry_whole(&mut a, &mut b);
    assert_eq!(a.heard, b"still here");
}

#[test]
fn the_validity_of_a_chain_is_its_leafs() {
    let root = Authority::root("root");
    let key = PrivateKey::generate().unwrap();
    let below = root.intermediate("between");
    let chain = pem(&below.sign(&Leaf::named(CLIENT), &key));
    let certificate = join(&chain, &key, root.root_pem()).unwrap();
    let (not_before, not_after) = validity_of(chain.as_bytes()).unwrap();
    assert_eq!(system_time(not_before), certificate.not_before());
    assert_eq!(system_time(not_after), certificate.not_after());
    assert_eq!(validity_of(b"hello"), Err(CredentialError::EmptyChain));
}
