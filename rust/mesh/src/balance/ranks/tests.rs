use std::collections::BTreeMap;

use LoadBalancerScope::{Cluster, Node, Region, Subzone, Zone};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

use super::*;
use crate::testing::{local, mesh, pod};

/// Workloads in every combination of a few places.
fn places() -> Vec<Arc<Workload>> {
    let mut pods = Vec::new();
    for n in 0..64 {
        let [a, b, c] = [n % 2, n / 2 % 2, n / 4 % 2];
        let more = json!({
            "network": format!("net{a}"), "clusterId": format!("cluster{}", n / 8 % 2), "node": format!("node{}", n % 5),
            "locality": {"region": format!("r{b}"), "zone": format!("z{c}"), "subzone": if n % 3 == 0 { "s" } else { "" }},
            "capacity": n % 3,
        });
        pods.push(pod(&format!("w{n:02}"), &["10.0.0.1"], more));
    }
    let mesh = mesh(&json!({ "workloads": pods }));
    (0..64).map(|n| local(&mesh, &format!("w{n:02}"))).collect()
}

#[test]
fn the_network_first_is_worth_more_than_all_that_follows() {
    // spec/dataplane.md §10.4: 5 all, 4 network and region, 3 network, 2 region and zone, 1 region, 0 none.
    let at = |network, region, zone| json!({"network": network, "locality": {"region": region, "zone": zone, "subzone": ""}});
    let mesh = mesh(&json!({"workloads": [
        pod("client", &["10.0.0.1"], at("n", "r", "z")),
        pod("5", &["10.0.0.2"], at("n", "r", "z")), pod("4", &["10.0.0.2"], at("n", "r", "x")),
        pod("3", &["10.0.0.2"], at("n", "x", "z")), pod("2", &["10.0.0.2"], at("x", "r", "z")),
        pod("1", &["10.0.0.2"], at("x", "r", "x")), pod("0", &["10.0.0.2"], at("x", "x", "z")),
    ]}));
    let scopes = [Network, Region, Zone];
    assert_eq!(full_rank(&scopes), 5);
    let (client, mut ranked) = (local(&mesh, "client"), Ranked::new(&scopes));
    // From the worst to the best: each new one is the best there is.
    for expected in 0..=5_usize {
        let workload = local(&mesh, &expected.to_string());
        assert_eq!(rank(&scopes, &client, &workload), expected);
        let number = u32::try_from(expected).unwrap();
        ranked.put(&scopes, &workload, number);
        let best = ranked.best(&scopes, &client);
        assert_eq!((best.rank, best.level.sums().count), (expected, 1));
        assert_eq!(best.level.at(0), Some(number));
    }
    // Elsewhere the walk ends at the first that differs, the network like any other.
    for (scopes, expected) in [
        (&[Region, Network, Zone][..], [0, 1, 1, 0, 2, 3]),
        (&[Network], [0, 0, 0, 1, 1, 1]),
        (&[Zone, Region], [1, 0, 2, 1, 0, 2]),
        (&[Node, Cluster, Subzone], [3; 6]),
        (&[], [0; 6]),
    ] {
        let of = |n: usize| rank(scopes, &client, &local(&mesh, &n.to_string()));
        assert_eq!([0, 1, 2, 3, 4, 5].map(of), expected, "{scopes:?}");
    }
}

fn scopes() -> impl Strategy<Value = Vec<LoadBalancerScope>> {
    let all = vec![Network, Region, Zone, Subzone, Node, Cluster];
    subsequence(all, 0..=6).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_way_down_leads_to_whom_a_look_at_everyone_finds(
        scopes in scopes(),
        changes in prop::collection::vec((0..64_usize, prop::bool::weighted(0.7)), 0..100),
        source in select((0..64).collect::<Vec<_>>()),
    ) {
        let (places, mut ranked) = (places(), Ranked::new(&scopes));
        let mut plain = BTreeMap::new();
        for (n, put) in changes {
            let number = u32::try_from(n).unwrap();
            if put {
                ranked.put(&scopes, &places[n], number);
                plain.insert(number, &places[n]);
            } else {
                ranked.take(&scopes, &places[n], number);
                plain.remove(&number);
            }
        }
        prop_assert_eq!(ranked.is_empty(), plain.is_empty());
        let mut numbers: Vec<_> = ranked.numbers().collect();
        numbers.sort_unstable();
        prop_assert!(numbers.iter().eq(plain.keys()));

        let source = &places[source];
        let Best { rank: best, level } = ranked.best(&scopes, source);
        let ranks = plain.values().map(|w| rank(&scopes, source, w));
        prop_assert_eq!(ranks.max().unwrap_or(0), best);
        let suit = plain.iter().filter(|(_, w)| rank(&scopes, source, w) == best);
        let expected: BTreeMap<u32, u64> = suit.map(|(n, w)| (*n, w.capacity.into())).collect();
        prop_assert_eq!(level.sums().count as usize, expected.len());
        let mut drawn: BTreeMap<u32, u64> = expected.keys().map(|n| (*n, 0)).collect();
        for number in 0..level.sums().weight {
            *drawn.get_mut(&level.at(number).unwrap()).unwrap() += 1;
        }
        prop_assert_eq!(drawn, expected);
    }
}
