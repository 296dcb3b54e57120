use super::*;
use crate::tls::testing::{Authority, CLIENT, End, SERVER, carry_whole, identity};

const SOON: Duration = Duration::from_secs(30);

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn what_was_installed_is_found_until_it_is_forgotten() {
    let root = Authority::root("root");
    let store = CredentialStore::new(RecordPlan::default());
    assert!(store.get(&identity(CLIENT)).is_none());
    store.install(root.certificate(SERVER));
    store.install(root.certificate(CLIENT));
    assert_eq!(store.identities(), [identity(CLIENT), identity(SERVER)]);
    store.forget(&identity(CLIENT));
    assert!(store.get(&identity(CLIENT)).is_none());
    assert!(store.get(&identity(SERVER)).is_some());
}

#[test]
fn connections_make_their_records_as_the_store_was_told() {
    let root = Authority::root("root");
    for plan in RecordPlan::EACH {
        let store = CredentialStore::new(plan);
        store.install(root.certificate(SERVER));
        let certificate = store.get(&identity(SERVER)).unwrap();
        assert_eq!(certificate.server().records, plan);
        assert_eq!(certificate.client(&[identity(CLIENT)]).records, plan);
    }
}

/// The group that a client of one store and a server of the other agree on, or why not.
fn agreed(client: Groups, server: Groups) -> Result<&'static str, &'static str> {
    let root = Authority::root("root");
    let of = |groups, name: &str| {
        let store = CredentialStore::new(RecordPlan::default()).with_groups(groups);
        store.install(root.certificate(name));
        store.get(&identity(name)).unwrap()
    };
    let client = of(client, CLIENT).client(&[identity(SERVER)]);
    let (mut client, mut server) = (
        End::client(client),
        End::server(of(server, SERVER).server()),
    );
    carry_whole(&mut client, &mut server);
    match (client.session.facts(), server.session.facts()) {
        (Some(one), Some(other)) if one == other => Ok(one.group),
        _ => Err(client.reason()),
    }
}

#[test]
fn the_post_quantum_policy_agrees_on_keys_by_the_hybrid_group_alone_on_either_side() {
    assert_eq!(agreed(Groups::All, Groups::All), Ok("X25519"));
    // Whoever has all groups offers the hybrid as well, and is asked for it.
    for (client, server) in [
        (Groups::Pqc, Groups::Pqc),
        (Groups::Pqc, Groups::All),
        (Groups::All, Groups::Pqc),
    ] {
        assert_eq!(agreed(client, server), Ok("X25519MLKEM768"));
    }
}

#[test]
fn those_who_wait_are_woken_by_the_certificate_they_wait_for() {
    let root = Authority::root("root");
    let store = CredentialStore::new(RecordPlan::default());
    run(async {
        let wanted = identity(CLIENT);
        let waiting = store.wait_for(&wanted, SOON);
        let coming = async {
            store.install(root.certificate(SERVER)); // somebody else's: must not end the wait
            tokio::task::yield_now().await;
            store.install(root.certificate(CLIENT));
        };
        let (found, ()) = tokio::join!(waiting, coming);
        assert_eq!(found.unwrap().identity(), &wanted);
    });
}

#[test]
fn a_certificate_that_is_there_is_not_waited_for() {
    let store = CredentialStore::new(RecordPlan::default());
    store.install(Authority::root("root").certificate(CLIENT));
    let found = run(store.wait_for(&identity(CLIENT), Duration::ZERO));
    assert!(found.is_ok());
}

#[test]
fn waiting_ends_at_its_limit_and_says_for_whom() {
    let store = CredentialStore::new(RecordPlan::default());
    let limit = Duration::from_millis(1);
    let error = run(store.wait_for(&identity(CLIENT), limit)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no certificate for {CLIENT}: none came within 1ms; can the CA be reached?")
    );
}

#[test]
fn who_waits_for_what_is_not_to_be_had_is_told_why_at_once() {
    let root = Authority::root("root");
    let store = CredentialStore::new(RecordPlan::default());
    let wanted = identity(CLIENT);
    run(async {
        let waiting = store.wait_for(&wanted, SOON);
        let coming = async {
            store.fail(&identity(SERVER), "somebody else's trouble");
            tokio::task::yield_now().await;
            store.fail(&wanted, "the authority is out for lunch");
        };
        let (told, ()) = tokio::join!(waiting, coming);
        let text = format!("no certificate for {CLIENT}: the authority is out for lunch");
        assert_eq!(told.unwrap_err().to_string(), text);
        // Who comes later need not wait either.
        let later = store.wait_for(&wanted, SOON).await;
        assert_eq!(later.unwrap_err().to_string(), text);
    });
    store.install(root.certificate(CLIENT));
    store.forget(&wanted);
    // As if nobody had ever asked.
    let again = run(store.wait_for(&wanted, Duration::from_millis(1)));
    assert!(again.unwrap_err().to_string().contains("none came within"));
}

#[test]
fn who_waits_for_what_is_forgotten_is_told_so() {
    let store = CredentialStore::new(RecordPlan::default());
    let wanted = identity(CLIENT);
    run(async {
        let waiting = store.wait_for(&wanted, SOON);
        let coming = async {
            store.fail(&wanted, "the identity is no longer needed");
            store.forget(&wanted);
        };
        let (told, ()) = tokio::join!(waiting, coming);
        assert!(told.unwrap_err().to_string().ends_with("no longer needed"));
    });
}
