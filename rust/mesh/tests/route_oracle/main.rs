//! `route` and `inbound` against a second implementation of each, written straight from spec/dataplane.md and sharing no
//! code with them: the same answers, and outbound with the same probabilities.
//!
//! `ROUTE_ORACLE_CASES` sets how many meshes are drawn, `ROUTE_ORACLE_SEED` where they begin; a failure names its seed.
//! The matcher's oracle is `authorize_oracle.rs`.

mod inbound;
mod oracle;
mod world;

use std::collections::BTreeMap;

use mesh::decode::Resource;
use mesh::explain::explain_route;
use mesh::route::{
    InboundFacts, NoRoute, Route, RouteFacts, Target, guess_service, inbound as inbound_route,
    route,
};
use mesh::snapshot::MeshSnapshot;
use mesh::store::MeshStore;
use oracle::Outcome;
use world::{Dice, Inbound, Outbound, World};

const CASES: u64 = 20_000;
/// Questions to each mesh, in both directions.
const QUESTIONS: usize = 3;

#[expect(
    clippy::disallowed_methods,
    reason = "the crate reads no environment; whoever runs this test may ask for more cases"
)]
fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().expect("a number"))
}

fn store(world: &World) -> std::sync::Arc<MeshSnapshot> {
    let resources = world.resources();
    let upserts: Vec<Resource<'_>> = resources
        .iter()
        .map(|(type_url, name, value)| Resource {
            type_url,
            name,
            value,
        })
        .collect();
    let mut store = MeshStore::new();
    let applied = store.apply(&upserts, &[]);
    assert_eq!(applied.rejections, [], "{world:#?}");
    store.snapshot()
}

/// Every answer of `route` with its probability: all sequences of draws are gone through.
fn all_answers(mesh: &MeshSnapshot, facts: &RouteFacts<'_>) -> BTreeMap<Outcome, f64> {
    let mut answers = BTreeMap::new();
    let mut tape: Vec<(u64, u64)> = Vec::new();
    loop {
        let mut at = 0;
        let mut draw = |total: u64| {
            assert!(total > 0, "a draw from nothing");
            if at == tape.len() {
                tape.push((0, total));
            }
            at += 1;
            tape[at - 1].0
        };
        let answer = route(mesh, facts, &mut draw);
        let explained = {
            at = 0;
            let mut draw = |_| {
                at += 1;
                tape[at - 1].0
            };
            explain_route(mesh, facts, &mut draw)
        };
        let text = answer.as_ref().err().map(ToString::to_string);
        assert_eq!(explained.error, text, "explain and route disagree");
        let chance: f64 = tape.iter().map(|(_, total)| 1.0 / *total as f64).product();
        *answers.entry(summary(answer)).or_insert(0.0) += chance;
        while let Some((drawn, total)) = tape.pop() {
            if drawn + 1 < total {
                tape.push((drawn + 1, total));
                break;
            }
        }
        if tape.is_empty() {
            return answers;
        }
    }
}

fn summary(answer: Result<Route, NoRoute>) -> Outcome {
    let names = |names: &[mesh::identity::Identity]| -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    };
    match answer {
        Err(error) => {
            let text = error.to_string();
            Err(text.split(':').next().unwrap_or_default().to_owned())
        }
        Ok(Route::Resolve(unresolved)) => Ok(format!("resolve {}", unresolved.hostname())),
        Ok(Route::Passthrough {
            destination,
            workload,
            service,
        }) => Ok(format!(
            "tcp {destination} at {} service {}",
            workload.map_or_else(|| "-".into(), |w| w.uid.to_string()),
            service.map_or_else(|| "-".into(), |s| s.key().to_string()),
        )),
        Ok(Route::Hbone {
            peer,
            authority,
            expected,
            workload,
            service,
        }) => Ok(format!(
            "hbone {peer} for {authority} at {} as {:?} service {}",
            workload.uid,
            names(&expected),
            service.map_or_else(|| "-".into(), |s| s.key().to_string()),
        )),
        Ok(Route::DoubleHbone {
            peer,
            authority,
            expected,
            inner_expected,
            workload,
            service,
        }) => Ok(format!(
            "double {peer} for {authority} at {} as {:?} inner {:?} service {}",
            workload.uid,
            names(&expected),
            names(&inner_expected),
            service.key(),
        )),
    }
}

fn check_outbound(
    seed: u64,
    world: &World,
    mesh: &MeshSnapshot,
    ask: &Outbound,
    kinds: &mut Kinds,
) {
    let uid = &world.workloads[ask.source].uid;
    let source = mesh.workload_by_uid(uid).expect("it was just stored");
    let target = Target::Address((ask.target, ask.port).into());
    let facts = RouteFacts {
        source,
        client: ask.client,
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let answers = all_answers(mesh, &facts);
    let expected = oracle::summed(oracle::Oracle::new(world, ask, "").route());
    let close = |(outcome, chance): (&Outcome, &f64)| {
        let other = answers.get(outcome).copied().unwrap_or_default();
        (other - chance).abs() < 1e-9
    };
    if answers.len() != expected.len() || !expected.iter().all(close) {
        panic!("seed {seed}: {ask:?}\nroute: {answers:#?}\noracle: {expected:#?}\n{world:#?}");
    }
    for outcome in answers.keys() {
        let kind = match outcome {
            Ok(text) => text.split(' ').next().unwrap_or_default(),
            Err(text) => text,
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
}

fn check_inbound(seed: u64, world: &World, mesh: &MeshSnapshot, ask: &Inbound, kinds: &mut Kinds) {
    let uid = &world.workloads[ask.local].uid;
    let local = mesh.workload_by_uid(uid).expect("it was just stored");
    let target = match &ask.asked {
        Ok(address) => Target::Address((*address, ask.port).into()),
        Err(host) => Target::Host {
            hostname: host.clone(),
            port: ask.port,
        },
    };
    let answer = inbound_route(
        mesh,
        &InboundFacts {
            local,
            local_address: ask.local_address,
            target: &target,
            network: "",
            reserved_ports: &[15001, 15006, 15008],
        },
    );
    let answer = match answer {
        Ok(route) => {
            let guess = guess_service(&route.candidates, None, route.destination.port());
            let guess = guess.map(|service| service.key().to_string());
            Ok((route.destination, route.header, guess))
        }
        Err(refusal) => Err((refusal.status(), refusal.to_string())),
    };
    let network = "";
    let expected = inbound::Oracle {
        world,
        ask,
        network,
    };
    let expected = expected.route();
    assert_eq!(answer, expected, "seed {seed}: {ask:?}\n{world:#?}");
    let kind = match &answer {
        Ok((_, Some(_), _)) => "in with a header",
        Ok(_) => "in",
        Err((_, text)) => text.split(' ').next().unwrap_or_default(),
    };
    *kinds.entry(kind.to_owned()).or_default() += 1;
}

type Kinds = BTreeMap<String, u64>;

#[test]
fn route_and_oracle_agree_on_random_meshes() {
    let first = setting("ROUTE_ORACLE_SEED", 1);
    let mut kinds = Kinds::new();
    for seed in first..first + setting("ROUTE_ORACLE_CASES", CASES) {
        let mut dice = Dice(seed);
        let world = World::draw(&mut dice);
        let mesh = store(&world);
        for _ in 0..QUESTIONS {
            check_outbound(seed, &world, &mesh, &world.ask(&mut dice), &mut kinds);
            check_inbound(seed, &world, &mesh, &world.knock(&mut dice), &mut kinds);
        }
    }
    // A generator that no longer reaches a kind of answer would prove nothing about it.
    for kind in [
        "hbone",
        "double",
        "tcp",
        "resolve",
        "unknown waypoint",
        "unknown network gateway",
        "no healthy upstream",
        "no service for target address",
        "no valid routing destination for workload",
        "in",
        "in with a header",
        "ip",
        "no",
        "requested",
        "attempted",
    ] {
        assert!(
            kinds.get(kind).is_some_and(|n| *n > 0),
            "never seen: {kind}: {kinds:?}"
        );
    }
}
