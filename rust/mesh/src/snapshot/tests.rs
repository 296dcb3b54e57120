use serde_json::json;

use super::*;
use crate::testing::{apply, dump, mesh, pod, policy, service};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn uid_at<'a>(mesh: &'a MeshSnapshot, network: &str, address: &str) -> Option<&'a str> {
    mesh.workload_by_address(network, ip(address))
        .map(|w| &*w.uid)
}

fn name_at(
    mesh: &MeshSnapshot,
    network: &str,
    address: &str,
    client: Option<&str>,
) -> Option<String> {
    mesh.service_by_vip(network, ip(address), client)
        .map(|s| s.key().to_string())
}

#[test]
fn an_address_means_something_only_in_its_network() {
    let mesh = mesh(&json!({"workloads": [
        pod("here", &["10.0.0.1", "ff06::1"], json!({})),
        pod("there", &["10.0.0.1"], json!({"network": "other"})),
        pod("host", &["10.0.0.2"], json!({"networkMode": "HostNetwork"})),
    ]}));
    for (network, address, expected) in [
        ("", "10.0.0.1", Some("here")),
        ("", "::ffff:10.0.0.1", Some("here")),
        ("", "ff06::1", Some("here")),
        ("other", "10.0.0.1", Some("there")),
        ("third", "10.0.0.1", None),
        ("", "10.0.0.2", None),
        ("", "10.0.0.3", None),
    ] {
        assert_eq!(
            uid_at(&mesh, network, address),
            expected,
            "{network}/{address}"
        );
    }
}

#[test]
fn pods_go_before_tunnel_users_and_the_last_one_learned_before_its_equals() {
    let plain = json!({"protocol": "TCP"});
    for (uids, expected) in [
        (["a", "b"], "b"),
        (["b", "a"], "a"),
        (["x//Pod/a", "b"], "x//Pod/a"),
        (["plain", "a"], "a"),
        (["a", "plain"], "a"),
        (["x//Pod/plain", "b"], "x//Pod/plain"),
        (["x//Pod/a", "x//Pod/plain"], "x//Pod/a"),
    ] {
        let more = |uid: &str| {
            if uid.ends_with("plain") {
                plain.clone()
            } else {
                json!({})
            }
        };
        let pods = uids.map(|uid| pod(uid, &["10.0.0.1"], more(uid)));
        assert_eq!(
            uid_at(&mesh(&json!({"workloads": pods})), "", "10.0.0.1"),
            Some(expected),
            "{uids:?}"
        );
    }
}

#[test]
fn the_local_workload_matches_in_name_namespace_and_service_account() {
    let mesh = mesh(
        &json!({"workloads": [pod("a", &[], json!({})), pod("b", &[], json!({"name": "a", "namespace": "other"}))]}),
    );
    let found = |name, namespace, account| {
        mesh.local_workload(name, namespace, account)
            .map(|w| &*w.uid)
    };
    assert_eq!(found("a", "ns", "a"), Some("a"));
    assert_eq!(found("a", "other", "b"), Some("b"));
    for (name, namespace, account) in [
        ("a", "ns", "b"),
        ("a", "x", "a"),
        ("b", "ns", "a"),
        ("", "", ""),
    ] {
        assert_eq!(found(name, namespace, account), None);
    }
}

#[test]
fn a_virtual_address_means_the_clients_own_service_then_the_canonical_then_the_first() {
    let of = |namespace: &str, canonical: bool| {
        service(
            "s",
            &["net/10.1.0.1"],
            json!({"namespace": namespace, "canonical": canonical}),
        )
    };
    let mesh = mesh(
        &json!({"services": [of("one", false), of("two", true), of("three", false), of("four", true)]}),
    );
    for (network, client, expected) in [
        ("net", Some("one"), Some("one/s.ns")),
        ("net", Some("three"), Some("three/s.ns")),
        ("net", Some("nobody"), Some("four/s.ns")),
        ("net", None, Some("four/s.ns")),
        ("", None, None),
    ] {
        assert_eq!(
            name_at(&mesh, network, "10.1.0.1", client).as_deref(),
            expected,
            "{network} {client:?}"
        );
        let by_name = mesh
            .service_by_hostname("s.ns", client)
            .map(|s| s.key().to_string());
        assert_eq!(by_name.as_deref(), expected.or(Some("four/s.ns")));
    }
    assert_eq!(mesh.service_by_hostname("S.ns", None), None);
    assert_eq!(
        mesh.service(&"three/s.ns".parse().unwrap())
            .map(|s| &*s.namespace),
        Some("three")
    );
}

#[test]
fn without_a_canonical_service_the_first_one_learned_is_meant_even_after_it_changed() {
    let of = |namespace: &str, more| {
        service("s", &["/10.1.0.1"], {
            let mut m: serde_json::Value = more;
            m["namespace"] = namespace.into();
            m
        })
    };
    let mut store = crate::store::MeshStore::new();
    apply(
        &mut store,
        &json!({"services": [of("one", json!({})), of("two", json!({}))]}),
    );
    apply(
        &mut store,
        &json!({"services": [of("one", json!({"ports": {"81": 81}}))]}),
    );
    assert_eq!(
        name_at(&store.snapshot(), "", "10.1.0.1", None).as_deref(),
        Some("one/s.ns")
    );
}

#[test]
fn a_service_for_its_namespace_is_not_seen_from_others() {
    let own = service(
        "own",
        &["/10.1.0.1"],
        json!({"visibility": "Namespace", "canonical": true}),
    );
    let wide = service(
        "wide",
        &[],
        json!({"namespace": "far", "cidrVips": [{"network": "", "cidr": "10.1.0.0/16"}]}),
    );
    let mesh = mesh(&json!({"services": [own, wide]}));
    for (client, expected) in [
        (Some("ns"), "ns/own.ns"),
        (None, "ns/own.ns"),
        (Some("x"), "far/wide.ns"),
    ] {
        assert_eq!(
            name_at(&mesh, "", "10.1.0.1", client).as_deref(),
            Some(expected),
            "{client:?}"
        );
    }
    assert!(mesh.service_by_hostname("own.ns", Some("x")).is_none());
    assert!(mesh.service_by_hostname("own.ns", Some("ns")).is_some());
}

#[test]
fn among_blocks_the_clients_namespace_goes_before_the_longer_prefix_before_the_canonical() {
    let of = |name: &str, namespace: &str, canonical: bool, cidr: &str| {
        service(
            name,
            &[],
            json!({"namespace": namespace, "canonical": canonical, "cidrVips": [{"network": "", "cidr": cidr}]}),
        )
    };
    let mesh = mesh(&json!({"services": [
        of("wide", "ns", false, "10.0.0.0/8"), of("long", "other", false, "10.2.0.0/16"),
        of("first", "a", false, "10.3.0.0/24"), of("second", "b", false, "10.3.0.0/24"), of("canonical", "c", true, "10.3.0.0/24"),
        of("six", "ns", false, "ff06::/16"), of("none", "d", true, "0.0.0.0/0"),
        service("elsewhere", &[], json!({"cidrVips": [{"network": "net", "cidr": "10.2.3.0/24"}]})),
        service("sixes", &[], json!({"cidrVips": [{"network": "six", "cidr": "::/0"}]})),
    ]}));
    for (address, client, expected) in [
        ("10.2.3.4", Some("ns"), "ns/wide.ns"),
        ("10.2.3.4", None, "other/long.ns"),
        ("10.9.0.1", None, "ns/wide.ns"),
        ("10.3.0.9", None, "c/canonical.ns"),
        ("10.3.0.9", Some("b"), "b/second.ns"),
        ("ff06::9", None, "ns/six.ns"),
        ("11.0.0.1", None, "d/none.ns"),
    ] {
        assert_eq!(
            name_at(&mesh, "", address, client).as_deref(),
            Some(expected),
            "{address} {client:?}"
        );
    }
    // All of one family is nothing of the other.
    assert_eq!(name_at(&mesh, "", "ff07::1", None), None);
    assert_eq!(name_at(&mesh, "six", "10.2.3.4", None), None);
    assert_eq!(
        name_at(&mesh, "net", "10.2.3.4", None).as_deref(),
        Some("ns/elsewhere.ns")
    );
}

#[test]
fn a_service_that_moves_leaves_its_old_addresses() {
    let mut store = crate::store::MeshStore::new();
    let at = |vip: &str, cidr: &str| json!({"services": [service("s", &[vip], json!({"cidrVips": [{"network": "", "cidr": cidr}]}))]});
    apply(&mut store, &at("/10.1.0.1", "10.2.0.0/16"));
    apply(&mut store, &at("/10.1.0.2", "10.3.0.0/24"));
    let mesh = store.snapshot();
    for (address, expected) in [
        ("10.1.0.1", None),
        ("10.1.0.2", Some("ns/s.ns")),
        ("10.2.0.1", None),
        ("10.3.0.1", Some("ns/s.ns")),
    ] {
        assert_eq!(
            name_at(&mesh, "", address, None).as_deref(),
            expected,
            "{address}"
        );
    }
}

#[test]
fn a_block_means_the_service_as_it_is_however_often_its_endpoints_change() {
    // spec/dataplane.md §20.2 item 4: upstream adds an entry for each change, and the oldest one wins.
    let mut store = crate::store::MeshStore::new();
    let wide = |more: u16| {
        let more =
            json!({"ports": {"80": more}, "cidrVips": [{"network": "", "cidr": "10.2.0.0/16"}]});
        json!({"services": [service("s", &[], more)]})
    };
    let endpoint = |port: u16| {
        pod(
            "a",
            &["10.0.0.1"],
            json!({"services": {"ns/s.ns": {"80": port}}}),
        )
    };
    for version in 1..=20 {
        apply(&mut store, &wide(version));
        for change in 1..=20 {
            apply(
                &mut store,
                &json!({"workloads": [endpoint(version * 100 + change)]}),
            );
        }
        let mesh = store.snapshot();
        let found = mesh.service_by_vip("", ip("10.2.3.4"), None).unwrap();
        let held = mesh.service(&found.key()).unwrap();
        assert!(Arc::ptr_eq(found, held));
        assert_eq!(found.ports[&80], version);
        let own = mesh.endpoint(found, "a").unwrap();
        assert_eq!(own.port[&80], version * 100 + 20);
    }
    store.apply(&[], &[(crate::decode::TYPE_SERVICE, "ns/s.ns")]);
    let mesh = store.snapshot();
    assert_eq!(
        name_at(&mesh, "", "10.2.3.4", None),
        None,
        "nothing is left of it"
    );
}

#[test]
fn the_dump_is_sorted_and_knows_its_sections() {
    let mesh = mesh(
        &json!({"workloads": [pod("b", &[], json!({})), pod("a", &[], json!({}))],
        "services": [service("y", &[], json!({})), service("x", &[], json!({"namespace": "b"})), service("x", &[], json!({"namespace": "a"}))]}),
    );
    let names = |section, key: &str| {
        let list = dump(&mesh, section);
        list.as_array()
            .unwrap()
            .iter()
            .map(|o| o[key].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("workloads", "uid"), ["a", "b"]);
    assert_eq!(names("services", "hostname"), ["x.ns", "x.ns", "y.ns"]);
    assert_eq!(names("services", "namespace"), ["a", "b", "ns"]);
    assert_eq!(mesh.dump("secrets"), None);
}

#[test]
fn a_workload_is_found_by_its_own_hostname_for_as_long_as_it_has_it() {
    let named = |uid: &str, hostname: &str| pod(uid, &[], json!({"hostname": hostname}));
    let mut store = crate::store::MeshStore::new();
    let found = |mesh: &MeshSnapshot, name: &str| {
        let found = mesh.workload_by_hostname(&name.parse().unwrap());
        found.map(|workload| workload.uid.to_string())
    };
    apply(
        &mut store,
        &json!({"workloads": [named("b", "h.example"), named("a", "h.example"), pod("c", &[], json!({}))]}),
    );
    let before = store.snapshot();
    assert_eq!(found(&before, "ns/h.example").as_deref(), Some("a"));
    assert_eq!(found(&before, "other/h.example"), None);
    apply(&mut store, &json!({"workloads": [named("a", "i.example")]}));
    let after = store.snapshot();
    assert_eq!(found(&after, "ns/h.example").as_deref(), Some("b"));
    assert_eq!(found(&after, "ns/i.example").as_deref(), Some("a"));
    assert_eq!(found(&before, "ns/i.example"), None);
    store.apply(&[], &[(crate::decode::TYPE_WORKLOAD, "b")]);
    assert_eq!(found(&store.snapshot(), "ns/h.example"), None);
}

#[test]
fn the_dump_sorts_policies_by_their_keys_and_keys_by_the_alphabet() {
    let of = |namespace: &str| policy("p", "Deny", json!([]), json!({"namespace": namespace}));
    let mesh = mesh(&json!({"policies": [of("a"), of("a-b")]}));
    // As one text: `-` comes before `/`.
    let dump = String::from_utf8(mesh.dump("policies").unwrap()).unwrap();
    let of = |namespace: &str| {
        format!(
            r#"{{"action":"Deny","dryRun":false,"name":"p","namespace":"{namespace}","rules":[],"scope":"Namespace"}}"#
        )
    };
    assert_eq!(dump, format!("[{},{}]", of("a-b"), of("a")));
}

#[test]
fn the_dump_shows_the_endpoints_that_may_be_chosen_and_a_wider_health_policy_shows_the_rest() {
    let mut store = crate::store::MeshStore::new();
    let of = |name: &str, status: &str| {
        pod(
            name,
            &[],
            json!({"status": status, "services": {"ns/s.ns": {}}}),
        )
    };
    let balanced = |health: &str| {
        let balancer =
            json!({"routingPreferences": [], "mode": "Standard", "healthPolicy": health});
        json!({"services": [service("s", &[], json!({"loadBalancer": balancer}))]})
    };
    apply(
        &mut store,
        &json!({"workloads": [of("a", "Healthy"), of("b", "Unhealthy")]}),
    );
    let shown = |store: &crate::store::MeshStore| {
        let endpoints = &dump(&store.snapshot(), "services")[0]["endpoints"];
        endpoints
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    for (health, expected) in [
        ("OnlyHealthy", &["a"][..]),
        ("AllowAll", &["a", "b"]),
        ("OnlyHealthy", &["a"]),
    ] {
        apply(&mut store, &balanced(health));
        assert_eq!(shown(&store), expected);
    }
}

#[test]
fn texts_are_in_the_same_order_with_what_they_have_in_common_left_out() {
    let texts = |list: &[&str]| -> Vec<Arc<String>> {
        list.iter()
            .map(|text| Arc::new((*text).to_owned()))
            .collect()
    };
    for list in [
        &[][..],
        &["only"],
        &["a", "", "b"],
        &["pod/b", "pod/", "pod/a\0", "pod/a", "pod/a\0\0", "pod/ü"],
        &[
            "pod/0123456789abcdef-2",
            "pod/0123456789abcdef-1",
            "pod/0123456789abcdef",
        ],
        &["same", "same", "samf"],
    ] {
        let held = texts(list);
        let mut expected: Vec<&str> = list.to_vec();
        expected.sort_unstable();
        assert_eq!(sorted_by_text(held.iter(), |text| text.as_str()), expected);
    }
}
