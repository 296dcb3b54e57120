//! Any file is a list or is refused, and a list that our authority has not signed revokes nobody, whomever it names.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use mesh::identity::Identity;
use proxy::tls::{
    CredentialStore, PrivateKey, RecordPlan, RevocationList, Session, WorkloadCertificate,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, SerialNumber,
};

const CLIENT: &str = "spiffe://cluster.local/ns/fuzz/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/fuzz/sa/server";
/// The authority's name and its certificates' number are the seeds', so that their lists seem to be about them.
const AUTHORITY: &str = "fuzz root";
const SERIAL: u64 = 0x0123_4567;

static STORE: LazyLock<CredentialStore> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, AUTHORITY);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let store = CredentialStore::new(RecordPlan::default());
    for name in [CLIENT, SERVER] {
        let key = PrivateKey::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(SERIAL));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        let chain = params.signed_by(&key, &root).unwrap().pem();
        let identity = Identity::parse(name).unwrap();
        let roots = root.pem();
        store.install(
            WorkloadCertificate::new(identity, &key, chain.as_bytes(), roots.as_bytes()).unwrap(),
        );
    }
    store
});

fuzz_target!(|input: &[u8]| {
    let Ok(list) = RevocationList::read(input) else {
        return;
    };
    let again = RevocationList::read(input).expect("it was a list a moment ago");
    assert_eq!(
        (list.lists(), list.serials()),
        (again.lists(), again.serials())
    );
    // Each entry has some bytes of its own.
    assert!(list.serials() <= input.len());
    STORE.revocations().replace(list);
    meet();
});

/// Both ends must believe each other.
fn meet() {
    let own = |name| STORE.get(&Identity::parse(name).unwrap()).unwrap();
    let expected = [Identity::parse(SERVER).unwrap()];
    let mut client = Session::client(own(CLIENT).client(&expected)).unwrap();
    let mut server = Session::server(Arc::clone(&own(SERVER).server())).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    while client.is_handshaking() || server.is_handshaking() {
        let done = client.receive(&mut to_client, &mut to_server, &mut |_| {});
        to_client.drain(..done.expect("the server is believed"));
        let done = server.receive(&mut to_server, &mut to_client, &mut |_| {});
        to_server.drain(..done.expect("the client is believed"));
    }
}
