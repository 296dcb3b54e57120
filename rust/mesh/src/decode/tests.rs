use serde_json::{Value, json};

use super::*;
use crate::store::MeshStore;
use crate::testing::{dump, mesh, mistakes, pod, policy, service};

#[test]
fn a_mistake_names_the_object_the_field_and_the_cause() {
    let one = |section: &str, object: Value| json!({ section: [object] });
    let workload = |more: Value| one("workloads", pod("a/b", &["10.0.0.1"], more));
    let service = |more: Value| one("services", service("s", &["/10.1.0.1"], more));
    let matching = |m: Value| one("policies", policy("p", "Allow", json!([[[m]]]), json!({})));
    let policy = |more: Value| one("policies", policy("p", "Allow", json!([]), more));
    let cases = [
        (
            workload(json!({"workloadIps": ["10.0.0.1", "10.0.0"]})),
            r#"workloads "a/b": workloadIps[1]: invalid IP address: `10.0.0`"#,
        ),
        (
            workload(json!({"workloadIps": "10.0.0.1"})),
            r#"workloads "a/b": workloadIps: expected a list, found the text `10.0.0.1`"#,
        ),
        (
            workload(json!({"capacity": -1})),
            r#"workloads "a/b": capacity: expected a whole number from 0 to 4294967295, found the number -1"#,
        ),
        (
            workload(json!({"capacity": 1.5})),
            r#"workloads "a/b": capacity: expected a whole number from 0 to 4294967295, found the number 1.5"#,
        ),
        (
            workload(json!({"protocol": "hbone"})),
            r#"workloads "a/b": protocol: expected one of HBONE, TCP, found the text `hbone`"#,
        ),
        (
            workload(json!({"name": 7})),
            r#"workloads "a/b": name: expected a text, found the number 7"#,
        ),
        (
            workload(json!({"name": null})),
            r#"workloads "a/b": name: expected a text, found null"#,
        ),
        (
            workload(json!({"nativeTunnel": "yes"})),
            r#"workloads "a/b": nativeTunnel: expected true or false, found the text `yes`"#,
        ),
        (
            workload(json!({"namespace": "a b"})),
            r#"workloads "a/b": namespace: not a SPIFFE path segment (letters, digits, `.`, `-`, `_`): `a b`"#,
        ),
        (
            workload(json!({"trustDomain": "TD"})),
            r#"workloads "a/b": trustDomain: not a SPIFFE trust domain (lower-case letters, digits, `.`, `-`, `_`): `TD`"#,
        ),
        (
            workload(json!({"waypoint": {"destination": "x", "hboneMtlsPort": 1}})),
            r#"workloads "a/b": waypoint.destination: expected network/ip or namespace/hostname, found the text `x`"#,
        ),
        (
            workload(json!({"services": {"web": {}}})),
            r#"workloads "a/b": services["web"]: invalid service name (namespace/hostname): `web`"#,
        ),
        (
            workload(json!({"services": {"ns/web": {"80": 70000}}})),
            r#"workloads "a/b": services["ns/web"]["80"]: expected a whole number from 0 to 65535, found the number 70000"#,
        ),
        (
            workload(json!({"services": {"ns/web": {"70000": 80}}})),
            r#"workloads "a/b": services["ns/web"]["70000"]: expected a port from 1 to 65535"#,
        ),
        (
            workload(json!({"services": {"ns/web": {"080": 1, "80": 2}}})),
            r#"workloads "a/b": services["ns/web"]["80"]: is given twice"#,
        ),
        (
            workload(json!({"locality": {"region": "r", "subzone": "s"}})),
            r#"workloads "a/b": locality: missing field `zone`"#,
        ),
        (
            service(json!({"vips": ["10.1.0.1"]})),
            r#"services "ns/s.ns": vips[0]: invalid network address (network/ip, the network may be empty): `10.1.0.1`"#,
        ),
        (
            service(json!({"cidrVips": [{"network": "", "cidr": "10.0.0.0/33"}]})),
            r#"services "ns/s.ns": cidrVips[0].cidr: prefix length is more than the 32 bits of the address: 33"#,
        ),
        (
            service(json!({"endpoints": {"a": {"workloadUid": "b", "port": {}}}})),
            r#"services "ns/s.ns": endpoints: key `a` and workloadUid `b` differ"#,
        ),
        (
            service(
                json!({"loadBalancer": {"routingPreferences": ["Rack"], "mode": "Standard", "healthPolicy": "AllowAll"}}),
            ),
            r#"services "ns/s.ns": loadBalancer.routingPreferences[0]: expected one of Cluster, Network, Node, Region, Subzone, Zone, found the text `Rack`"#,
        ),
        (
            service(json!({"sessionAffinity": "None"})),
            r#"services "ns/s.ns": unknown field `sessionAffinity`; known are name, namespace, hostname, vips, cidrVips, ports, endpoints, subjectAltNames, waypoint, weightedWaypoints, loadBalancer, ipFamilies, canonical, visibility"#,
        ),
        (
            policy(json!({"scope": "Cluster"})),
            r#"policies "ns/p": scope: expected one of Global, Namespace, WorkloadSelector, found the text `Cluster`"#,
        ),
        (
            policy(json!({"action": "Audit"})),
            r#"policies "ns/p": action: expected one of Allow, Deny, found the text `Audit`"#,
        ),
        (
            policy(json!({"rules": [[{}]]})),
            r#"policies "ns/p": rules[0][0]: expected a list, found a map"#,
        ),
        (
            matching(json!({"sourceIps": ["10.0.0.0/33"]})),
            r#"policies "ns/p": rules[0][0][0].sourceIps[0]: prefix length is more than the 32 bits of the address: 33"#,
        ),
        (
            matching(json!({"destinationPorts": [80, 70000]})),
            r#"policies "ns/p": rules[0][0][0].destinationPorts[1]: expected a whole number from 0 to 65535, found the number 70000"#,
        ),
        (
            matching(json!({"principals": ["x"]})),
            r#"policies "ns/p": rules[0][0][0].principals[0]: expected a map such as {"Exact": …}, found the text `x`"#,
        ),
        (
            matching(json!({"principals": [{"Exact": "x", "Prefix": "y"}]})),
            r#"policies "ns/p": rules[0][0][0].principals[0]: expected exactly one of Exact, Prefix, Suffix, Presence"#,
        ),
        (
            matching(json!({"principals": [{"Regex": "x"}]})),
            r#"policies "ns/p": rules[0][0][0].principals[0]: expected one of Exact, Prefix, Suffix, Presence, found `Regex`"#,
        ),
        (
            matching(json!({"principals": [{"Presence": true}]})),
            r#"policies "ns/p": rules[0][0][0].principals[0].Presence: expected [], found `true`"#,
        ),
        (
            matching(json!({"serviceAccounts": [{"namespace": "a"}]})),
            r#"policies "ns/p": rules[0][0][0].serviceAccounts[0]: missing field `serviceAccount`"#,
        ),
        (
            matching(json!({"methods": ["GET"]})),
            "policies \"ns/p\": rules[0][0][0]: unknown field `methods`; known are namespaces, notNamespaces, serviceAccounts, notServiceAccounts, principals, notPrincipals, sourceIps, notSourceIps, destinationIps, notDestinationIps, destinationPorts, notDestinationPorts",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(mistakes(&file), [expected]);
    }
}

#[test]
fn every_mistake_is_told() {
    let broken = json!({"uid": "u", "workloadIps": ["x", "1.1.1.1", "y"], "color": "red"});
    let found = mistakes(&json!({"workloads": [broken]}));
    let expected = [
        "missing field `namespace`",
        "workloadIps[0]: invalid IP address: `x`",
        "workloadIps[2]: invalid IP address: `y`",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(*found, format!("workloads \"u\": {expected}"));
    }
    assert!(found[3].starts_with("workloads \"u\": unknown field `color`; known are uid, "));
    assert_eq!(found.len(), 4);
}

#[test]
fn the_list_of_mistakes_ends_somewhere() {
    let found = mistakes(&json!({"workloads": [pod("u", &["x"; 1000], json!({}))]}));
    assert_eq!(found.len(), 17);
    assert_eq!(found[16], "workloads \"u\": and 984 more mistakes");
}

#[test]
fn texts_and_lists_end_somewhere() {
    let long = "x".repeat(2049);
    let all = |section: &str, object: Value| mistakes(&json!({ section: [object] }));
    for more in [
        json!({ "node": long }),
        json!({ "authorizationPolicies": [long] }),
    ] {
        let found = all("workloads", pod("u", &[], more));
        assert!(
            found[0].ends_with(": longer than 2048 bytes: 2049"),
            "{found:?}"
        );
    }
    let found = all("workloads", pod("u", &["10.0.0.1"; 4097], json!({})));
    assert_eq!(
        found,
        ["workloads \"u\": workloadIps: more than 4096 entries: 4097"]
    );
    let found = all("services", service("s", &["/10.0.0.1"; 4097], json!({})));
    assert_eq!(
        found,
        ["services \"ns/s.ns\": vips: more than 4096 entries: 4097"]
    );
    let rules = json!(vec![json!([[{}]]); 60_000]);
    let found = all("policies", policy("p", "Deny", rules, json!({})));
    assert!(
        found[0].ends_with(": more than 131072 entries in all lists"),
        "{found:?}"
    );
}

#[test]
fn text_that_is_not_one_json_object_is_rejected() {
    let deep = "[".repeat(100_000);
    let deep_object = r#"{"a":"#.repeat(100_000);
    let wide = format!(
        "{{{}}}",
        (0..100)
            .map(|i| format!("\"f{i}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let large = vec![b' '; 5 << 20];
    for (value, expected) in [
        (&b""[..], "EOF while parsing a value at line 1 column 0"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b"{} {}", "trailing characters at line 1 column 4"),
        (b"[]", "expected a map, found a list"),
        (b"null", "expected a map, found null"),
        (b"7", "expected a map, found the number 7"),
        (b"\xff", "expected value at line 1 column 1"),
        (
            b"{\"uid\": \"\xff\"}",
            "invalid unicode code point at line 1 column 10",
        ),
        (
            b"{\"uid\": \"\\ud800\"}",
            "unexpected end of hex escape at line 1 column 16",
        ),
        (b"{uid: 1}", "key must be a string at line 1 column 2"),
        (b"{\"uid\": NaN}", "expected value at line 1 column 9"),
        (
            deep.as_bytes(),
            "recursion limit exceeded at line 1 column 128",
        ),
        (
            deep_object.as_bytes(),
            "recursion limit exceeded at line 1 column 636",
        ),
        (wide.as_bytes(), "has too many fields: 100"),
        (&large, "larger than 4194304 bytes: 5242880"),
    ] {
        let resource = Resource {
            type_url: TYPE_WORKLOAD,
            name: "u",
            value,
        };
        assert_eq!(decode_spec(&resource).unwrap_err().reasons, [expected]);
    }
}

#[test]
fn a_field_given_twice_is_rejected() {
    let value = br#"{"uid":"u","namespace":"ns","workloadIps":[],"uid":"u"}"#;
    let resource = Resource {
        type_url: TYPE_WORKLOAD,
        name: "u",
        value,
    };
    assert_eq!(
        decode_spec(&resource).unwrap_err().reasons,
        ["field `uid` is given twice"]
    );
}

#[test]
fn a_resource_must_go_by_its_own_name() {
    let value = pod("other", &[], json!({})).to_string();
    let resource = Resource {
        type_url: TYPE_WORKLOAD,
        name: "u",
        value: value.as_bytes(),
    };
    assert_eq!(
        decode_spec(&resource).unwrap_err().reasons,
        ["is named `u` but calls itself `other`"]
    );
}

#[test]
fn an_empty_uid_is_rejected() {
    assert_eq!(
        mistakes(&json!({"workloads": [pod("", &[], json!({}))]})),
        ["workloads \"\": uid: must not be empty"]
    );
}

#[test]
fn an_unknown_resource_type_is_rejected() {
    let resource = Resource {
        type_url: "x/Y",
        name: "u",
        value: b"{}",
    };
    let applied = MeshStore::new().apply(&[resource], &[]);
    assert_eq!(
        applied.rejections[0].to_string(),
        "x/Y \"u\": unknown resource type: `x/Y`"
    );
}

#[test]
fn what_is_not_said_has_a_default() {
    let said = json!({"uid": "u", "namespace": "ns", "workloadIps": [],
        "trustDomain": "", "serviceAccount": "", "clusterId": ""});
    let mesh = mesh(&json!({"workloads": [said]}));
    let workload = mesh.workload_by_uid("u").unwrap();
    assert_eq!(
        workload.identity().to_string(),
        "spiffe://cluster.local/ns/ns/sa/default"
    );
    assert_eq!(
        dump(&mesh, "workloads"),
        json!([{
            "uid": "u", "name": "", "namespace": "ns", "workloadIps": [], "protocol": "TCP",
            "networkMode": "Standard", "status": "Healthy", "clusterId": "Kubernetes", "capacity": 1,
            "trustDomain": "cluster.local", "serviceAccount": "default",
        }])
    );
}

#[test]
fn every_field_of_a_workload_is_kept_for_the_dump() {
    let full = json!({
        "uid": "u", "name": "n", "namespace": "ns", "workloadIps": ["10.0.0.1", "ff06::1"],
        "trustDomain": "td", "serviceAccount": "sa", "network": "net", "protocol": "HBONE",
        "networkMode": "HostNetwork", "nativeTunnel": true, "workloadName": "wn", "workloadType": "pod",
        "canonicalName": "cn", "canonicalRevision": "cr", "hostname": "h", "node": "node",
        "clusterId": "c", "status": "Unhealthy", "capacity": 0,
        "waypoint": {"destination": "net/10.0.0.9", "hboneMtlsPort": 15008},
        "networkGateway": {"destination": "ns/gw.ns", "hboneMtlsPort": 15009},
        "applicationTunnel": {"protocol": "PROXY", "port": 15088},
        "authorizationPolicies": ["ns/p"], "locality": {"region": "r", "zone": "z", "subzone": "s"},
    });
    let with = |services: Value| {
        let mut object = full.clone();
        object["services"] = services;
        object
    };
    let mesh = mesh(&json!({"workloads": [with(json!({"ns/web": {"80": 8080}}))]}));
    assert_eq!(dump(&mesh, "workloads"), json!([with(json!(["ns/web"]))]));
    assert_eq!(
        dump(&mesh, "stagedServices"),
        json!({"ns/web": {
            "u": {"workloadUid": "u", "port": {"80": 8080}, "status": "Unhealthy"},
        }})
    );
}

#[test]
fn every_field_of_a_service_is_kept_for_the_dump() {
    let full = json!({
        "name": "n", "namespace": "ns", "hostname": "h", "vips": ["net/10.0.0.1", "/::1"],
        "cidrVips": [{"network": "net", "cidr": "10.0.0.0/8"}], "ports": {"80": 8080, "443": 0},
        "endpoints": {"u": {"workloadUid": "u", "port": {"80": 81}, "status": "Unhealthy"}},
        "subjectAltNames": ["spiffe://td/ns/a/sa/b", "dns.example"],
        "waypoint": {"destination": "ns/w", "hboneMtlsPort": 15008},
        "weightedWaypoints": [{"destination": {"destination": "/1.1.1.1", "hboneMtlsPort": 1}, "weight": 3}],
        "loadBalancer": {"routingPreferences": ["Network", "Region"], "mode": "Failover", "healthPolicy": "AllowAll"},
        "ipFamilies": "IPv4", "canonical": true, "visibility": "Namespace",
    });
    assert_eq!(
        dump(&mesh(&json!({"services": [full]})), "services"),
        json!([full])
    );
}

#[test]
fn every_field_of_a_policy_is_kept_for_the_dump() {
    let patterns = json!([{"Exact": "a"}, {"Prefix": "b"}, {"Suffix": "c"}, {"Presence": []}]);
    let accounts = json!([{"namespace": "a", "serviceAccount": "b"}]);
    let full = policy(
        "p",
        "Deny",
        json!([[[{
        "namespaces": patterns, "notNamespaces": patterns, "principals": patterns,
        "notPrincipals": patterns, "serviceAccounts": accounts, "notServiceAccounts": accounts,
        "sourceIps": ["10.0.0.0/8"], "notSourceIps": ["::/0"], "destinationIps": ["1.1.1.1/32"],
        "notDestinationIps": ["2.2.2.0/24"], "destinationPorts": [1], "notDestinationPorts": [65535],
    }, {}], []], []]),
        json!({"dryRun": true, "scope": "WorkloadSelector"}),
    );
    assert_eq!(
        dump(&mesh(&json!({"policies": [full]})), "policies"),
        json!([full])
    );
}

#[test]
fn presence_may_be_written_as_an_empty_map() {
    let rules = json!([[[{"principals": [{"Presence": {}}]}]]]);
    let mesh = mesh(&json!({"policies": [policy("p", "Deny", rules, json!({}))]}));
    assert_eq!(
        dump(&mesh, "policies")[0]["rules"][0][0][0]["principals"],
        json!([{"Presence": []}])
    );
}

#[test]
fn optional_objects_may_be_null() {
    let nothing = json!({"waypoint": null, "networkGateway": null, "applicationTunnel": null, "locality": null});
    mesh(&json!({
        "workloads": [pod("a", &[], nothing), pod("b", &[], json!({"applicationTunnel": {"protocol": "NONE", "port": null}}))],
        "services": [service("s", &[], json!({"waypoint": null, "loadBalancer": null, "ipFamilies": null}))],
    }));
}
