use serde_json::{Value, json};

use super::*;
use crate::explain::{RouteSummary, explain_route};
use crate::testing::{local, mesh, pod, service};

mod random;
mod recorded;
mod resolved;
mod upstream;
mod waypoints;

/// `tcp <peer> [workload] [service]`, `hbone <peer> <authority> <workload> [service] <- <identities>`,
/// `double <peer> <authority> <gateway> <service> <- <outer> << <inner>`, `resolve <name> <workload> [service]`, or the
/// error.
pub(super) fn answer(mesh: &MeshSnapshot, client: &str, target: &str) -> String {
    answer_to(mesh, "client", client, target, &mut |_| 0)
}

/// The same for any source and any luck.
pub(super) fn answer_to(
    mesh: &MeshSnapshot,
    source: &str,
    client: &str,
    target: &str,
    choose: &mut dyn FnMut(u64) -> u64,
) -> String {
    let source = local(mesh, source);
    let target = read_target(target);
    let facts = RouteFacts {
        source: &source,
        client: client.parse().unwrap(),
        target: &target,
        network: &source.network,
        hbone_port: 15008,
    };
    let mut drawn = Vec::new();
    let found = route(mesh, &facts, &mut |total| {
        drawn.push(choose(total));
        *drawn.last().unwrap()
    });
    let mut again = drawn.into_iter();
    let explained = explain_route(mesh, &facts, &mut |_| again.next().unwrap());
    assert_eq!(
        explained.error,
        found.as_ref().err().map(ToString::to_string)
    );
    assert_eq!(explained.route, found.as_ref().ok().map(RouteSummary::from));
    match &found {
        Ok(route) => in_words(route),
        Err(error) => error.to_string(),
    }
}

pub(super) fn read_target(text: &str) -> Target {
    match text.parse() {
        Ok(address) => Target::Address(address),
        Err(_) => {
            let (hostname, port) = text.rsplit_once(':').unwrap();
            Target::Host {
                hostname: hostname.into(),
                port: port.parse().unwrap(),
            }
        }
    }
}

pub(super) fn in_words(route: &Route) -> String {
    let summary = RouteSummary::from(route);
    let kind = match summary.kind {
        "double-hbone" => "double",
        "passthrough" => "tcp",
        kind => kind,
    };
    let ids = |ids: &[String]| {
        let short = |id: &String| id.trim_start_matches("spiffe://cluster.local/").to_owned();
        ids.iter().map(short).collect::<Vec<_>>().join(" ")
    };
    let expected = (!summary.expected.is_empty()).then(|| format!("<- {}", ids(&summary.expected)));
    let inner = summary
        .inner_expected
        .map(|inner| format!("<< {}", ids(&inner)));
    let words = [
        Some(kind.to_owned()),
        Some(summary.peer),
        summary.authority,
        summary.workload.map(|uid| uid.to_string()),
        summary.service,
        expected,
        inner,
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    words.join(" ").trim_end().to_owned()
}

pub(super) fn endpoint_of(service: &str, more: Value) -> Value {
    let mut object = json!({"services": {format!("ns/{service}.ns"): {}}});
    object
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    object
}

fn world() -> Arc<MeshSnapshot> {
    let gateway = json!({"destination": "/10.0.9.9", "hboneMtlsPort": 15009});
    let waypoint = json!({"destination": "/10.0.8.8", "hboneMtlsPort": 15008});
    let mode = |mode: &str| json!({"loadBalancer": {"routingPreferences": [], "mode": mode, "healthPolicy": "OnlyHealthy"}});
    let sans = json!({"subjectAltNames": ["spiffe://cluster.local/ns/ns/sa/other", "web.example", "spiffe://td/x"]});
    let dual = &["10.0.0.9", "ff06::9"];
    mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("hbone", &["10.0.0.2", "ff06::2"], endpoint_of("web", json!({}))),
            pod("tcp", &["10.0.0.3"], endpoint_of("plain", json!({"protocol": "TCP"}))),
            pod("host", &["10.0.0.4"], endpoint_of("hostnet", json!({"networkMode": "HostNetwork"}))),
            pod("behind-waypoint", &["10.0.0.5"], endpoint_of("direct", json!({"waypoint": waypoint}))),
            pod("nowhere", &[], endpoint_of("empty", json!({}))),
            pod("named", &[], endpoint_of("resolved", json!({"hostname": "h.example"}))),
            pod("remote", &[], endpoint_of("remote", json!({"network": "far", "networkGateway": gateway}))),
            pod("far", &["10.0.0.8"], endpoint_of("far", json!({"network": "far"}))),
            pod("dual", dual, json!({"services": {"ns/dual.ns": {}, "ns/only4.ns": {}, "ns/only6.ns": {}}})),
            pod("four", &["10.0.0.10"], endpoint_of("four-as-six", json!({}))),
            pod("both", &["10.1.0.20"], json!({})),
            pod("sick", &["10.0.0.11"], endpoint_of("sick", json!({"status": "Unhealthy"}))),
            pod("aaa-port", &["10.0.0.12"], endpoint_of("port", json!({}))),
            pod("port", &["10.0.0.13"], json!({"services": {"ns/port.ns": {"80": 1234}}})),
        ],
        "services": [
            service("web", &["/10.1.0.1", "/ff07::1"], sans),
            service("plain", &["/10.1.0.2"], json!({})),
            service("hostnet", &["/10.1.0.3"], json!({})),
            service("direct", &["/10.1.0.4"], json!({})),
            service("empty", &["/10.1.0.5"], json!({})),
            service("resolved", &["/10.1.0.6"], json!({})),
            service("remote", &["/10.1.0.7"], json!({})),
            service("far", &["/10.1.0.8"], json!({})),
            service("dual", &["/10.1.0.9", "/ff07::9"], json!({})),
            service("only4", &["/ff07::4"], json!({"ipFamilies": "IPv4"})),
            service("only6", &["/10.1.0.10"], json!({"ipFamilies": "IPv6"})),
            service("four-as-six", &["/10.1.0.11"], json!({"ipFamilies": "IPv6"})),
            service("waypoint", &["/10.1.0.12"], json!({"waypoint": waypoint})),
            service("canary", &["/10.1.0.13"], json!({"weightedWaypoints": [{"destination": waypoint, "weight": 1}]})),
            service("pass", &["/10.1.0.14"], mode("Passthrough")),
            service("pass-waypoint", &["/10.1.0.15"], json!({"waypoint": waypoint, "loadBalancer": mode("Passthrough")["loadBalancer"]})),
            service("overlap", &["/10.1.0.20"], json!({})),
            service("sick", &["/10.1.0.16"], json!({})),
            service("port", &["/10.1.0.17"], json!({"ports": {"80": 0}})),
            service("block", &[], json!({"cidrVips": [{"network": "", "cidr": "10.7.0.0/16"}], "waypoint": waypoint})),
            service("secret", &["/10.1.0.18"], json!({"visibility": "Namespace", "namespace": "other"})),
        ],
    }))
}

#[test]
fn where_connections_go() {
    let mesh = world();
    for (what, target, expected) in [
        ("an unknown address", "1.2.3.4:80", "tcp 1.2.3.4:80"),
        (
            "an unknown address, mapped",
            "[::ffff:1.2.3.4]:80",
            "tcp 1.2.3.4:80",
        ),
        (
            "a pod that takes tunnels",
            "10.0.0.2:80",
            "hbone 10.0.0.2:15008 10.0.0.2:80 hbone <- ns/ns/sa/hbone",
        ),
        (
            "the same, mapped",
            "[::ffff:10.0.0.2]:80",
            "hbone 10.0.0.2:15008 10.0.0.2:80 hbone <- ns/ns/sa/hbone",
        ),
        (
            "its other family",
            "[ff06::2]:80",
            "hbone [ff06::2]:15008 [ff06::2]:80 hbone <- ns/ns/sa/hbone",
        ),
        (
            "itself",
            "10.0.0.1:80",
            "hbone 10.0.0.1:15008 10.0.0.1:80 client <- ns/ns/sa/client",
        ),
        ("a pod of plain TCP", "10.0.0.3:80", "tcp 10.0.0.3:80 tcp"),
        (
            "a host-network pod by address",
            "10.0.0.4:80",
            "tcp 10.0.0.4:80",
        ),
        (
            "a host-network pod by service",
            "10.1.0.3:80",
            "hbone 10.0.0.4:15008 10.0.0.4:8080 host ns/hostnet.ns <- ns/ns/sa/host",
        ),
        (
            "a service",
            "10.1.0.1:80",
            "hbone 10.0.0.2:15008 10.0.0.2:8080 hbone ns/web.ns <- ns/ns/sa/other ns/ns/sa/hbone",
        ),
        (
            "a service by its IPv6 address",
            "[ff07::1]:80",
            "hbone [ff06::2]:15008 [ff06::2]:8080 hbone ns/web.ns <- ns/ns/sa/other ns/ns/sa/hbone",
        ),
        (
            "a service of plain TCP",
            "10.1.0.2:80",
            "tcp 10.0.0.3:8080 tcp ns/plain.ns",
        ),
        (
            "a port the service does not have",
            "10.1.0.1:81",
            "no healthy upstream: 10.1.0.1:81",
        ),
        (
            "a service without healthy endpoints",
            "10.1.0.16:80",
            "no healthy upstream: 10.1.0.16:80",
        ),
        (
            "a service whose endpoints have no address",
            "10.1.0.5:80",
            "no healthy upstream: 10.1.0.5:80",
        ),
        (
            "a named port",
            "10.1.0.17:80",
            "hbone 10.0.0.13:15008 10.0.0.13:1234 port ns/port.ns <- ns/ns/sa/port",
        ),
        (
            "a service that keeps the destination",
            "10.1.0.14:81",
            "tcp 10.1.0.14:81",
        ),
        (
            "a service without endpoints and a workload on one address",
            "10.1.0.20:80",
            "tcp 10.1.0.20:80",
        ),
        (
            "a service not visible to the client",
            "10.1.0.18:80",
            "tcp 10.1.0.18:80",
        ),
        (
            "dual stack, asked by IPv4",
            "10.1.0.9:80",
            "hbone 10.0.0.9:15008 10.0.0.9:8080 dual ns/dual.ns <- ns/ns/sa/dual",
        ),
        (
            "dual stack, asked by IPv6",
            "[ff07::9]:80",
            "hbone [ff06::9]:15008 [ff06::9]:8080 dual ns/dual.ns <- ns/ns/sa/dual",
        ),
        (
            "IPv4 only, asked by IPv6",
            "[ff07::4]:80",
            "hbone 10.0.0.9:15008 10.0.0.9:8080 dual ns/only4.ns <- ns/ns/sa/dual",
        ),
        (
            "IPv6 only, asked by IPv4",
            "10.1.0.10:80",
            "hbone [ff06::9]:15008 [ff06::9]:8080 dual ns/only6.ns <- ns/ns/sa/dual",
        ),
        (
            "IPv6 only, and none there",
            "10.1.0.11:80",
            "no valid routing destination for workload: four",
        ),
        (
            "a hostname",
            "web.ns:80",
            "hbone 10.0.0.2:15008 10.0.0.2:8080 hbone ns/web.ns <- ns/ns/sa/other ns/ns/sa/hbone",
        ),
        (
            "a hostname and a port it does not have",
            "web.ns:81",
            "no healthy upstream: web.ns:81",
        ),
        (
            "an unknown hostname",
            "nobody.ns:80",
            "no service or workload for hostname: nobody.ns",
        ),
        (
            "a hostname not visible to the client",
            "secret.ns:80",
            "no service or workload for hostname: secret.ns",
        ),
        (
            "a pod behind a waypoint that is not there",
            "10.0.0.5:80",
            "unknown waypoint: waypoint /10.0.8.8:15008 not found",
        ),
        (
            "the same pod for its service",
            "10.1.0.4:80",
            "hbone 10.0.0.5:15008 10.0.0.5:8080 behind-waypoint ns/direct.ns <- ns/ns/sa/behind-waypoint",
        ),
        (
            "a service behind one",
            "10.1.0.12:80",
            "unknown waypoint: waypoint /10.0.8.8:15008 not found",
        ),
        (
            "the same, by name",
            "waypoint.ns:80",
            "unknown waypoint: waypoint /10.0.8.8:15008 not found",
        ),
        (
            "one of several that is not there",
            "10.1.0.13:80",
            "unknown waypoint: waypoint /10.0.8.8:15008 not found",
        ),
        (
            "one before a kept destination",
            "10.1.0.15:80",
            "unknown waypoint: waypoint /10.0.8.8:15008 not found",
        ),
        (
            "a block behind one",
            "10.7.3.4:80",
            "unknown waypoint: waypoint /10.0.8.8:15008 not found",
        ),
        (
            "a pod behind a gateway that is not there",
            "10.1.0.7:80",
            "unknown network gateway: network gateway /10.0.9.9:15009 not found",
        ),
        (
            "a pod in another network without gateway",
            "10.1.0.8:80",
            "no valid routing destination for workload: far",
        ),
        (
            "a name to resolve",
            "10.1.0.6:80",
            "resolve h.example named ns/resolved.ns",
        ),
    ] {
        assert_eq!(answer(&mesh, "10.0.0.1", target), expected, "{what}");
    }
}

#[test]
fn who_asks_for_a_name_gets_the_family_it_came_by() {
    let mesh = world();
    for (client, expected) in [
        (
            "10.0.0.1",
            "hbone 10.0.0.9:15008 10.0.0.9:8080 dual ns/dual.ns <- ns/ns/sa/dual",
        ),
        (
            "::ffff:10.0.0.1",
            "hbone 10.0.0.9:15008 10.0.0.9:8080 dual ns/dual.ns <- ns/ns/sa/dual",
        ),
        (
            "ff06::1",
            "hbone [ff06::9]:15008 [ff06::9]:8080 dual ns/dual.ns <- ns/ns/sa/dual",
        ),
    ] {
        assert_eq!(answer(&mesh, client, "dual.ns:80"), expected, "{client}");
    }
}

#[test]
fn our_network_and_the_sources_may_differ() {
    let mesh = mesh(&json!({
        "workloads": [pod("client", &["10.0.0.1"], json!({"network": "a"})), pod("peer", &["10.0.0.2"], json!({"network": "a"}))],
        "services": [service("s", &["b/10.1.0.1"], json!({}))],
    }));
    let source = local(&mesh, "client");
    for (target, expected) in [
        (
            "10.1.0.1:80",
            Err("no healthy upstream: 10.1.0.1:80".to_owned()),
        ),
        ("10.0.0.2:80", Ok("10.0.0.2:15008".parse().unwrap())),
    ] {
        let target = Target::Address(target.parse().unwrap());
        let facts = RouteFacts {
            source: &source,
            client: "10.0.0.1".parse().unwrap(),
            target: &target,
            network: "b",
            hbone_port: 15008,
        };
        let found = route(&mesh, &facts, &mut |_| 0);
        assert_eq!(
            found
                .as_ref()
                .map(|r| RouteSummary::from(r).peer)
                .map_err(ToString::to_string),
            expected
        );
    }
}

#[test]
fn a_trust_domain_of_its_own_is_expected_of_the_peer() {
    let mesh = mesh(
        &json!({"workloads": [pod("client", &["10.0.0.1"], json!({})), pod("peer", &["10.0.0.2"], json!({"trustDomain": "td", "serviceAccount": "sa"}))]}),
    );
    assert!(answer(&mesh, "10.0.0.1", "10.0.0.2:1").ends_with("<- spiffe://td/ns/ns/sa/sa"));
}

/// Upstream kept what a block led to before (§20.2 item 4).
#[test]
fn a_block_leads_to_the_endpoints_of_today() {
    let mut store = crate::store::MeshStore::new();
    let block = json!({"cidrVips": [{"network": "", "cidr": "10.7.0.0/16"}]});
    crate::testing::apply(
        &mut store,
        &json!({"workloads": [pod("client", &["10.0.0.1"], json!({}))], "services": [service("block", &[], block)]}),
    );
    for n in 2..5 {
        let (old, new) = (format!("pod-{}", n - 1), format!("pod-{n}"));
        let address = format!("10.0.0.{n}");
        let endpoint = pod(&new, &[&address], endpoint_of("block", json!({})));
        store.apply(&[], &[(crate::decode::TYPE_WORKLOAD, &old)]);
        crate::testing::apply(&mut store, &json!({"workloads": [endpoint]}));
        assert_eq!(
            answer(&store.snapshot(), "10.0.0.1", "10.7.1.2:80"),
            format!("hbone {address}:15008 {address}:8080 {new} ns/block.ns <- ns/ns/sa/{new}")
        );
    }
}
