use super::testing::{pairs, service, workload};
use super::*;
use crate::sys::counting::allocated;
use crate::telemetry::log::Output;

fn quiet() -> Pairs {
    pairs("off", Output::Stdout).1
}

fn outbound<'a>(
    source: &'a Arc<Workload>,
    destination: &'a Arc<Workload>,
    service: Option<&'a Service>,
) -> Between<'a> {
    Between {
        direction: Direction::Outbound,
        source: Some(source),
        destination: Some(destination),
        service,
        tunnelled: true,
        peer: None,
    }
}

fn inbound<'a>(
    source: Option<&'a Arc<Workload>>,
    destination: &'a Arc<Workload>,
    identity: Option<&'a Identity>,
    fields: &'a Fields,
) -> Between<'a> {
    Between {
        direction: Direction::Inbound,
        source,
        destination: Some(destination),
        service: None,
        tunnelled: true,
        peer: Some((identity, fields)),
    }
}

fn same(pairs: &Pairs, one: &Between<'_>, other: &Between<'_>) -> bool {
    Rc::ptr_eq(&pairs.find(one), &pairs.find(other))
}

#[test]
fn equal_connections_are_one_pair_and_finding_it_allocates_nothing() {
    let pairs = quiet();
    let (a, b, echo) = (workload("a"), workload("b"), service("echo"));
    let fields = Fields::new().with("baggage", "k8s.namespace.name=x");
    let identity = a.identity();
    for between in [
        outbound(&a, &b, Some(&echo)),
        outbound(&a, &b, None),
        inbound(Some(&a), &b, Some(&identity), &fields),
        inbound(None, &b, Some(&identity), &fields),
    ] {
        let first = pairs.find(&between);
        let (again, cost) = allocated(|| pairs.find(&between));
        assert!(Rc::ptr_eq(&first, &again));
        assert_eq!(cost.calls, 0);
    }
}

#[test]
fn each_part_tells_pairs_apart() {
    let pairs = quiet();
    let (a, b, echo) = (workload("a"), workload("b"), service("echo"));
    let all = outbound(&a, &b, Some(&echo));
    for other in [
        Between {
            source: Some(&b),
            ..all
        },
        Between {
            destination: Some(&a),
            ..all
        },
        Between {
            destination: None,
            ..all
        },
        Between {
            service: None,
            ..all
        },
        Between {
            service: Some(&service("other")),
            ..all
        },
        Between {
            tunnelled: false,
            ..all
        },
        Between {
            direction: Direction::Inbound,
            ..all
        },
    ] {
        assert!(!same(&pairs, &all, &other));
        assert!(same(&pairs, &other, &other));
    }
    let fields = Fields::new().with("baggage", "a=b,c=d");
    let (one, other) = (a.identity(), b.identity());
    let from = inbound(None, &b, Some(&one), &fields);
    for fields in ["", "a=b", "a=b,c=d,", "a=b,c=e"].map(|said| Fields::new().with("baggage", said))
    {
        assert!(!same(
            &pairs,
            &from,
            &inbound(None, &b, Some(&one), &fields)
        ));
    }
    let cut = Fields::new().with("baggage", "a=b").with("baggage", "c=d");
    assert!(!same(&pairs, &from, &inbound(None, &b, Some(&one), &cut)));
    assert!(!same(
        &pairs,
        &from,
        &inbound(None, &b, Some(&other), &fields)
    ));
    assert!(!same(&pairs, &from, &inbound(None, &b, None, &fields)));
}

#[test]
fn what_the_mesh_knows_makes_the_peers_own_words_meaningless() {
    let pairs = quiet();
    let (a, b) = (workload("a"), workload("b"));
    let (one, other) = (
        Fields::new(),
        Fields::new().with("baggage", "service.name=x"),
    );
    assert!(same(
        &pairs,
        &inbound(Some(&a), &b, None, &one),
        &inbound(Some(&a), &b, None, &other)
    ));
}

#[test]
fn a_changed_workload_is_another_pair_and_changed_endpoints_are_not() {
    let pairs = quiet();
    let (a, b, echo) = (workload("a"), workload("b"), service("echo"));
    let before = outbound(&a, &b, Some(&echo));
    let changed = workload("b");
    assert!(!same(&pairs, &before, &outbound(&a, &changed, Some(&echo))));
    // What the store does with it: another service object, the same names.
    let grown = Service {
        canonical: true,
        ..(*echo).clone()
    };
    assert!(same(&pairs, &before, &outbound(&a, &b, Some(&grown))));
}

#[test]
fn the_cache_is_bounded_and_keeps_who_is_asked_for() {
    let pairs = quiet();
    let (a, b) = (workload("a"), workload("b"));
    let busy = outbound(&a, &b, None);
    let first = Rc::downgrade(&pairs.find(&busy));
    for number in 0..5 * GENERATION {
        let said = Fields::new().with("baggage", format!("service.name={number}"));
        pairs.find(&inbound(None, &b, None, &said));
        if number % (GENERATION / 2) == 0 {
            pairs.find(&busy);
        }
    }
    assert!(pairs.kept.borrow().len() <= 2 * GENERATION);
    let still = first.upgrade().expect("it was asked for all the time");
    assert!(Rc::ptr_eq(&still, &pairs.find(&busy)));
}

#[test]
fn long_baggage_is_read_but_not_kept() {
    let pairs = quiet();
    let b = workload("b");
    let said = Fields::new().with("baggage", format!("service.name={}", "x".repeat(MAX_SAID)));
    let between = inbound(None, &b, None, &said);
    assert!(!same(&pairs, &between, &between));
    assert!(pairs.find(&between).key.baggage.canonical_service.is_some());
    assert_eq!(pairs.kept.borrow().len(), 0);
}

#[test]
fn an_introduction_is_our_own_workloads() {
    let pairs = quiet();
    let (a, b) = (workload("a"), workload("b"));
    let fields = Fields::new();
    let out = pairs.find(&outbound(&a, &b, None));
    assert_eq!(out.introduction(), baggage_of(&a).encode());
    let inward = pairs.find(&inbound(Some(&a), &b, None, &fields));
    assert_eq!(inward.introduction(), baggage_of(&b).encode());
    assert!(inward.introduction().contains("k8s.deployment.name=b"));
}
