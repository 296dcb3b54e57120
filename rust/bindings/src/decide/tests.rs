use mesh::decode::{Resource, TYPE_SERVICE, TYPE_WORKLOAD};

use super::*;

/// A client, a server of service `web` behind a waypoint, and the waypoint, whose application wants headers.
fn mesh() -> Mesh {
    let pod = |uid: &str, address: &str, more: Value| {
        let mut pod = json!({
            "uid": uid, "name": uid, "namespace": "ns", "serviceAccount": uid, "trustDomain": "cluster.local",
            "workloadIps": [address], "protocol": "HBONE", "services": {},
        });
        if let (Some(pod), Value::Object(more)) = (pod.as_object_mut(), more) {
            pod.extend(more);
        }
        (TYPE_WORKLOAD, uid.to_owned(), pod.to_string())
    };
    let waypoint = json!({"destination": "/10.0.0.3", "hboneMtlsPort": 15008});
    let web = json!({
        "name": "web", "namespace": "ns", "hostname": "web.ns", "vips": ["/10.1.0.1"], "ports": {"80": 8080},
        "waypoint": waypoint,
    });
    let tunnel = json!({"applicationTunnel": {"protocol": "PROXY", "port": 15088}});
    let all = [
        pod("client", "10.0.0.1", json!({})),
        pod("server", "10.0.0.2", json!({"services": {"ns/web.ns": {}}})),
        pod("waypoint", "10.0.0.3", tunnel),
        (TYPE_SERVICE, "ns/web.ns".to_owned(), web.to_string()),
    ];
    let borrow = |(type_url, name, value): &(&'static str, String, String)| Owned {
        type_url,
        name: name.clone(),
        value: value.clone(),
    };
    let owned: Vec<Owned> = all.iter().map(borrow).collect();
    let mut store = MeshStore::new();
    let upserts: Vec<_> = owned.iter().map(Owned::borrow).collect();
    assert_eq!(store.apply(&upserts, &[]).rejections, []);
    Mesh(store.snapshot())
}

struct Owned {
    type_url: &'static str,
    name: String,
    value: String,
}

impl Owned {
    fn borrow(&self) -> Resource<'_> {
        Resource {
            type_url: self.type_url,
            name: &self.name,
            value: self.value.as_bytes(),
        }
    }
}

fn facts(facts: Value) -> Facts {
    serde_json::from_value(facts).expect("the test knows the facts")
}

#[test]
fn all_that_the_facts_suffice_for_is_explained() {
    let told = mesh()
        .explained(&facts(json!({
            "source": "client", "target": "web.ns:80",
            "workload": "waypoint", "authority": "10.1.0.1:80", "sourceAddress": "10.0.0.1:4000",
        })))
        .expect("there are answers");
    assert_eq!(told["route"]["route"]["peer"], "10.0.0.3:15008");
    assert_eq!(told["route"]["route"]["authority"], "10.1.0.1:80");
    assert_eq!(
        told["inbound"]["route"],
        json!({"destination": "10.0.0.3:15088", "header": "10.1.0.1:80", "service": null})
    );
    assert_eq!(told["authorize"]["allowed"], true);
}

#[test]
fn what_is_not_asked_is_not_answered() {
    let mesh = mesh();
    for (what, asked, expected) in [
        (
            "the way out",
            json!({"source": "client", "target": "1.2.3.4:80"}),
            [true, false, false],
        ),
        (
            "the way in",
            json!({"workload": "server", "authority": "10.0.0.2:8080"}),
            [false, true, false],
        ),
        (
            "a plain connection",
            json!({"workload": "server", "captured": "10.0.0.2:80"}),
            [false, true, false],
        ),
        (
            "policy",
            json!({"workload": "server", "sourceAddress": "10.0.0.1:1", "destination": "10.0.0.2:80"}),
            [false, false, true],
        ),
        (
            "nowhere to be judged",
            json!({"workload": "server", "authority": "10.0.0.9:80", "sourceAddress": "10.0.0.1:1"}),
            [false, true, false],
        ),
        (
            "judged where it goes",
            json!({"workload": "server", "authority": "web.ns:80", "sourceAddress": "10.0.0.1:1"}),
            [false, true, true],
        ),
    ] {
        let told = mesh.explained(&facts(asked)).expect(what);
        let answered = ["route", "inbound", "authorize"].map(|question| !told[question].is_null());
        assert_eq!(answered, expected, "{what}");
    }
}

#[test]
fn a_fact_that_is_missing_or_wrong_is_named() {
    let mesh = mesh();
    for (asked, expected) in [
        (json!({"authority": "10.0.0.2:80"}), "workload: missing"),
        (
            json!({"authority": "10.0.0.2:80", "workload": "x"}),
            "workload: no such workload: x",
        ),
        (
            json!({"authority": "10.0.0.2", "workload": "server"}),
            "authority: need `ip:port` or `hostname:port`: 10.0.0.2",
        ),
        (json!({"target": "10.0.0.2:80"}), "source: missing"),
        (json!({"workload": "server"}), "sourceAddress: missing"),
        (
            json!({"workload": "server", "sourceAddress": "10.0.0.1:1"}),
            "destination: missing",
        ),
    ] {
        assert_eq!(mesh.explained(&facts(asked)).expect_err(expected), expected);
    }
}

/// Peers are taken at their word (spec/dataplane.md §3.3), while people are helped.
#[test]
fn an_authority_is_compared_byte_by_byte_and_a_target_is_not() {
    let mesh = mesh();
    let inbound = mesh.explained(&facts(
        json!({"workload": "server", "authority": "WEB.ns:80"}),
    ));
    assert_eq!(
        inbound.expect("an answer")["inbound"]["error"],
        "no service or workload for hostname: WEB.ns"
    );
    let route = mesh.explained(&facts(json!({"source": "client", "target": "WEB.ns:80"})));
    assert_eq!(route.expect("an answer")["route"]["error"], Value::Null);
}
