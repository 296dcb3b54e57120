use serde_json::{Value, json};

use super::*;
use crate::explain::explain_authorize;
use crate::store::MeshStore;
use crate::testing::{apply, local, mesh, pod, policy};

mod unreadable;

const ALICE: &str = "spiffe://cluster.local/ns/front/sa/alice";

fn facts(identity: Option<&str>) -> ConnectionFacts {
    ConnectionFacts {
        source: "10.0.0.1:4000".parse().unwrap(),
        destination: "10.0.0.2:80".parse().unwrap(),
        identity: identity.map(|id| id.parse().unwrap()),
    }
}

fn decision(mesh: &MeshSnapshot, facts: &ConnectionFacts) -> Decision {
    let workload = local(mesh, "server");
    let decision = authorize(mesh, &workload, facts);
    let explained = explain_authorize(mesh, &workload, facts);
    assert_eq!(explained.allowed, decision.verdict == Verdict::Allow);
    decision
}

/// Whether one match object alone, as a DENY, hits the connection.
fn hits(object: &Value, facts: &ConnectionFacts) -> bool {
    let mesh = mesh(&json!({
        "workloads": [pod("server", &["10.0.0.2"], json!({}))],
        "policies": [policy("p", "Deny", json!([[[object]]]), json!({}))],
    }));
    decision(&mesh, facts).verdict != Verdict::Allow
}

#[test]
fn what_each_list_is_compared_with() {
    let both = |alice, nobody| [(Some(ALICE), alice), (None, nobody)];
    for (object, expected) in [
        (json!({}), both(false, false)),
        (json!({"namespaces": []}), both(false, false)),
        (json!({"destinationIps": ["10.0.0.0/24"]}), both(true, true)),
        (
            json!({"destinationIps": ["10.0.0.1/32"]}),
            both(false, false),
        ),
        (
            json!({"notDestinationIps": ["10.0.0.1/32"]}),
            both(true, true),
        ),
        (
            json!({"notDestinationIps": ["10.0.0.2/32"]}),
            both(false, false),
        ),
        (
            json!({"sourceIps": ["10.0.0.1/32", "::/0"]}),
            both(true, true),
        ),
        (json!({"sourceIps": ["::/0"]}), both(false, false)),
        (json!({"notSourceIps": ["10.0.0.0/8"]}), both(false, false)),
        (json!({"destinationPorts": [79, 80]}), both(true, true)),
        (json!({"destinationPorts": [4000]}), both(false, false)),
        (json!({"notDestinationPorts": [9999]}), both(true, true)),
        (json!({"notDestinationPorts": [80]}), both(false, false)),
        (
            json!({"serviceAccounts": [{"namespace": "front", "serviceAccount": "alice"}]}),
            both(true, false),
        ),
        (
            json!({"serviceAccounts": [{"namespace": "back", "serviceAccount": "alice"}]}),
            both(false, false),
        ),
        (
            json!({"notServiceAccounts": [{"namespace": "front", "serviceAccount": "alice"}]}),
            both(false, true),
        ),
        (
            json!({"principals": [{"Exact": "cluster.local/ns/front/sa/alice"}]}),
            both(true, false),
        ),
        (
            json!({"principals": [{"Exact": ALICE}]}),
            both(false, false),
        ),
        (
            json!({"principals": [{"Prefix": "spiffe://"}]}),
            both(false, false),
        ),
        (
            json!({"principals": [{"Prefix": "cluster.local/"}]}),
            both(true, false),
        ),
        (json!({"principals": [{"Prefix": ""}]}), both(true, false)),
        (
            json!({"principals": [{"Suffix": "/sa/alice"}]}),
            both(true, false),
        ),
        (json!({"principals": [{"Presence": []}]}), both(true, false)),
        (
            json!({"notPrincipals": [{"Presence": []}]}),
            both(false, true),
        ),
        (
            json!({"notPrincipals": [{"Suffix": "bob"}]}),
            both(true, true),
        ),
        (
            json!({"namespaces": [{"Exact": "front"}]}),
            both(true, false),
        ),
        (json!({"namespaces": [{"Exact": ""}]}), both(false, true)),
        (json!({"namespaces": [{"Prefix": ""}]}), both(true, true)),
        (json!({"namespaces": [{"Suffix": ""}]}), both(true, true)),
        (json!({"namespaces": [{"Prefix": "fr"}]}), both(true, false)),
        (json!({"namespaces": [{"Presence": []}]}), both(true, false)),
        (
            json!({"notNamespaces": [{"Exact": "front"}]}),
            both(false, true),
        ),
        (
            json!({"notNamespaces": [{"Presence": []}]}),
            both(false, true),
        ),
        (
            json!({"namespaces": [{"Exact": "front"}], "destinationPorts": [80]}),
            both(true, false),
        ),
        (
            json!({"namespaces": [{"Exact": "front"}], "destinationPorts": [81]}),
            both(false, false),
        ),
        (
            json!({"namespaces": [{"Exact": "front"}], "notNamespaces": [{"Exact": "front"}]}),
            both(false, false),
        ),
    ] {
        for (identity, expected) in expected {
            assert_eq!(
                hits(&object, &facts(identity)),
                expected,
                "{object} {identity:?}"
            );
        }
    }
}

#[test]
fn mapped_addresses_are_ipv4_addresses() {
    let mapped = ConnectionFacts {
        source: "[::ffff:10.0.0.1]:4000".parse().unwrap(),
        destination: "[::ffff:10.0.0.2]:80".parse().unwrap(),
        identity: None,
    };
    assert!(hits(
        &json!({"sourceIps": ["10.0.0.1/32"], "destinationIps": ["::ffff:10.0.0.2/128"]}),
        &mapped
    ));
}

#[test]
fn the_trust_domain_counts_for_principals_only() {
    let stranger = facts(Some("spiffe://elsewhere/ns/front/sa/alice"));
    assert!(hits(
        &json!({"serviceAccounts": [{"namespace": "front", "serviceAccount": "alice"}]}),
        &stranger
    ));
    assert!(!hits(
        &json!({"principals": [{"Exact": "cluster.local/ns/front/sa/alice"}]}),
        &stranger
    ));
}

#[test]
fn rules_are_alternatives_of_clauses_that_must_all_hold() {
    let (yes, no) = (
        json!({"destinationPorts": [80]}),
        json!({"destinationPorts": [81]}),
    );
    for (rules, expected) in [
        (json!([]), false),
        (json!([[]]), true),
        (json!([[[]]]), true),
        (json!([[[{}]]]), false),
        (json!([[[no, yes]]]), true),
        (json!([[[yes], [no]]]), false),
        (json!([[[yes], []]]), true),
        (json!([[[no], []]]), false),
        (json!([[[no]], [[yes]]]), true),
        (json!([[[no]], []]), true),
    ] {
        for (action, otherwise) in [("Deny", true), ("Allow", false)] {
            let mesh = mesh(&json!({
                "workloads": [pod("server", &["10.0.0.2"], json!({}))],
                "policies": [policy("p", action, rules.clone(), json!({}))],
            }));
            let allowed = decision(&mesh, &facts(None)).verdict == Verdict::Allow;
            assert_eq!(allowed, expected != otherwise, "{action} {rules}");
        }
    }
}

/// Policies that always (`yes`) or never (`no`) match, and what comes of them: the verdict, then the notes.
#[test]
fn how_policies_come_together() {
    let all = json!([[]]);
    let none = json!([]);
    let dry = json!({"dryRun": true});
    let plain = json!({});
    let one = |name, action, rules: &Value, more: &Value| {
        policy(name, action, rules.clone(), more.clone())
    };
    let (deny, no_deny) = (
        one("d", "Deny", &all, &plain),
        one("nd", "Deny", &none, &plain),
    );
    let (allow, no_allow) = (
        one("a", "Allow", &all, &plain),
        one("na", "Allow", &none, &plain),
    );
    let (dry_deny, dry_no_deny) = (
        one("dd", "Deny", &all, &dry),
        one("dnd", "Deny", &none, &dry),
    );
    let (dry_allow, dry_no_allow) = (
        one("da", "Allow", &all, &dry),
        one("dna", "Allow", &none, &dry),
    );
    for (policies, expected) in [
        (vec![], "allow"),
        (vec![&deny], "explicitly denied by: ns/d"),
        (vec![&no_deny], "allow"),
        (vec![&allow], "allow by ns/a"),
        (vec![&no_allow], "allow policies exist, but none allowed"),
        (vec![&no_allow, &allow], "allow by ns/a"),
        (vec![&allow, &deny], "explicitly denied by: ns/d"),
        (vec![&allow, &no_deny], "allow by ns/a"),
        (vec![&dry_deny], "allow; dry-run: deny policy match ns/dd"),
        (vec![&dry_no_deny], "allow"),
        (
            vec![&dry_deny, &deny],
            "explicitly denied by: ns/d; dry-run: deny policy match ns/dd",
        ),
        (vec![&dry_allow], "allow; dry-run: allow policy match ns/da"),
        (
            vec![&dry_no_allow],
            "allow; dry-run: no allow policies match",
        ),
        (
            vec![&dry_no_allow, &dry_allow],
            "allow; dry-run: allow policy match ns/da",
        ),
        (vec![&dry_no_allow, &allow], "allow by ns/a"),
        (
            vec![&dry_no_allow, &no_allow],
            "allow policies exist, but none allowed",
        ),
        (
            vec![&dry_allow, &no_allow],
            "allow policies exist, but none allowed; dry-run: allow policy match ns/da",
        ),
        (vec![&dry_allow, &deny], "explicitly denied by: ns/d"),
    ] {
        let mesh = mesh(
            &json!({"workloads": [pod("server", &["10.0.0.2"], json!({}))], "policies": policies}),
        );
        let decision = decision(&mesh, &facts(None));
        let verdict = match (&decision.verdict, &decision.allowed_by) {
            (Verdict::Deny(reason), _) => reason.to_string(),
            (Verdict::Allow, Some(key)) => format!("allow by {key}"),
            (Verdict::Allow, None) => "allow".into(),
        };
        let notes = decision
            .notes
            .iter()
            .map(|n| format!("; {n} {}", n.policy().unwrap_or_default()));
        let told = format!(
            "{verdict}{}",
            notes.map(|n| n.trim_end().to_owned()).collect::<String>()
        );
        assert_eq!(told, expected);
    }
}

#[test]
fn a_policy_is_about_the_workloads_in_its_scope() {
    let server = |more| pod("server", &["10.0.0.2"], more);
    let named = json!({"authorizationPolicies": ["ns/p", "ns/gone"]});
    for (scope, namespace, workload, expected) in [
        ("Global", "istio-system", json!({}), true),
        ("Namespace", "ns", json!({}), true),
        ("Namespace", "other", json!({}), false),
        ("WorkloadSelector", "ns", json!({}), false),
        ("WorkloadSelector", "ns", named.clone(), true),
        ("WorkloadSelector", "other", named, false),
    ] {
        let deny = policy(
            "p",
            "Deny",
            json!([[]]),
            json!({"scope": scope, "namespace": namespace}),
        );
        let mesh = mesh(&json!({"workloads": [server(workload)], "policies": [deny]}));
        let denied = decision(&mesh, &facts(None)).verdict != Verdict::Allow;
        assert_eq!(denied, expected, "{scope} {namespace}");
    }
}

#[test]
fn a_named_policy_that_nobody_knows_is_skipped_and_noted() {
    let mesh = mesh(
        &json!({"workloads": [pod("server", &["10.0.0.2"], json!({"authorizationPolicies": ["ns/gone"]}))]}),
    );
    let decision = decision(&mesh, &facts(None));
    assert_eq!(decision.verdict, Verdict::Allow);
    assert_eq!(decision.notes, [Note::UnknownPolicy("ns/gone".into())]);
    assert_eq!(
        decision.notes[0].to_string(),
        "skipping unknown policy ns/gone"
    );
}

#[test]
fn a_policy_that_moves_leaves_its_old_scope() {
    let mut store = MeshStore::new();
    let scoped = |scope| {
        json!({"workloads": [pod("server", &["10.0.0.2"], json!({}))],
        "policies": [policy("p", "Deny", json!([[]]), json!({"scope": scope}))]})
    };
    for (scope, denied) in [
        ("Global", true),
        ("WorkloadSelector", false),
        ("Namespace", true),
        ("WorkloadSelector", false),
    ] {
        apply(&mut store, &scoped(scope));
        assert_eq!(
            decision(&store.snapshot(), &facts(None)).verdict != Verdict::Allow,
            denied,
            "{scope}"
        );
    }
}
