//! Policies with parts that nobody can read: never more is allowed than without them.

use super::*;

#[test]
fn what_cannot_be_read_fails_closed() {
    let from = |ips: &[&str]| json!([[[{"sourceIps": ips}]]]);
    // (policy, whether alice from 10.0.0.1 may pass, whether that is more than with nothing known)
    for (what, action, rules, more, allowed) in [
        (
            "an ALLOW with a bad entry",
            "Allow",
            from(&["10.0.0.0/8", "bad"]),
            json!({}),
            false,
        ),
        (
            "an ALLOW with a bad negative entry",
            "Allow",
            json!([[[{"notSourceIps": ["bad"]}]]]),
            json!({}),
            false,
        ),
        (
            "an ALLOW with a good alternative",
            "Allow",
            json!([[[{"sourceIps": ["bad"]}]], [[{"destinationPorts": [80]}]]]),
            json!({}),
            true,
        ),
        (
            "an ALLOW with an unknown condition",
            "Allow",
            json!([[[{"destinationPorts": [80], "hosts": ["x"]}]]]),
            json!({}),
            false,
        ),
        (
            "an ALLOW with an unknown field",
            "Allow",
            json!([[]]),
            json!({"selector": {}}),
            false,
        ),
        (
            "an ALLOW without readable rules",
            "Allow",
            json!({}),
            json!({}),
            false,
        ),
        (
            "an ALLOW with a rule that is no list",
            "Allow",
            json!([{}]),
            json!({}),
            false,
        ),
        (
            "an ALLOW with a clause that is no list",
            "Allow",
            json!([[{}]]),
            json!({}),
            false,
        ),
        (
            "an ALLOW with a match that is no map",
            "Allow",
            json!([[["x"]]]),
            json!({}),
            false,
        ),
        (
            "a DENY with a bad entry",
            "Deny",
            from(&["bad"]),
            json!({}),
            false,
        ),
        (
            "a DENY with a bad entry among good ones",
            "Deny",
            from(&["11.0.0.0/8", "bad"]),
            json!({}),
            false,
        ),
        (
            "a DENY with a bad list",
            "Deny",
            json!([[[{"sourceIps": "10.0.0.0/8"}]]]),
            json!({}),
            false,
        ),
        (
            "a DENY whose bad negative entry might spare",
            "Deny",
            json!([[[{"notSourceIps": ["bad"]}]]]),
            json!({}),
            false,
        ),
        (
            "a DENY whose readable part spares",
            "Deny",
            json!([[[{"sourceIps": ["bad"], "destinationPorts": [81]}]]]),
            json!({}),
            true,
        ),
        (
            "a DENY whose readable negative part spares",
            "Deny",
            json!([[[{"notSourceIps": ["bad", "10.0.0.1/32"]}]]]),
            json!({}),
            true,
        ),
        (
            "a DENY with an unknown condition",
            "Deny",
            json!([[[{"hosts": ["x"]}]]]),
            json!({}),
            false,
        ),
        (
            "a DENY with an unknown field",
            "Deny",
            from(&["10.0.0.1/32"]),
            json!({"selector": {}}),
            false,
        ),
        (
            "a DENY without readable rules",
            "Deny",
            json!(null),
            json!({}),
            false,
        ),
        (
            "a DENY with a rule that is no list",
            "Deny",
            json!([7]),
            json!({}),
            false,
        ),
        (
            "a DENY with a clause that is no list",
            "Deny",
            json!([[{}]]),
            json!({}),
            false,
        ),
        (
            "a DENY with a match that is no map",
            "Deny",
            json!([[["x"]]]),
            json!({}),
            false,
        ),
        (
            "a DENY that may only be a dry run",
            "Deny",
            json!([[]]),
            json!({"dryRun": "no"}),
            false,
        ),
        (
            "a policy of unknown scope: nobody can say whom it is about",
            "Deny",
            json!([[]]),
            json!({"scope": "Galaxy"}),
            true,
        ),
    ] {
        let mut store = MeshStore::new();
        let file = json!({"workloads": [pod("server", &["10.0.0.2"], json!({}))], "policies": [policy("p", action, rules, more)]});
        assert!(!apply(&mut store, &file).rejections.is_empty(), "{what}");
        let verdict = decision(&store.snapshot(), &facts(Some(ALICE))).verdict;
        assert_eq!(verdict == Verdict::Allow, allowed, "{what}");
    }
}
