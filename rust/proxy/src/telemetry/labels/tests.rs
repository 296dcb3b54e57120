use super::*;

fn labels<'a>(cluster: &'a str, principal: &'a str) -> Labels<'a> {
    Labels {
        reporter: Reporter::Source,
        source: SideLabels {
            cluster,
            principal,
            ..SideLabels::default()
        },
        destination: SideLabels::default(),
        service: ServiceLabels::default(),
        security_policy: SecurityPolicy::Unknown,
    }
}

fn values(labels: &Labels<'_>) -> Vec<String> {
    labels
        .key()
        .split(SEPARATOR)
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn a_key_has_one_value_for_each_name() {
    assert_eq!(values(&labels("", "")).len(), NAMES.len());
    let overflow = Labels::overflow(Reporter::Source, SecurityPolicy::Unknown);
    assert_eq!(values(&overflow).len(), NAMES.len());
}

#[test]
fn an_empty_value_is_unknown() {
    let values = values(&labels("", ""));
    assert_eq!(values[0], "source");
    assert!(values[1..].iter().all(|value| value == "unknown"));
}

#[test]
fn no_value_can_pass_for_two() {
    let values = values(&labels("east\u{1f}west\n\0", ""));
    assert_eq!(values.len(), NAMES.len());
    assert_eq!(values[8], "east\u{fffd}west\u{fffd}\u{fffd}");
}

#[test]
fn long_values_are_cut_between_characters() {
    let long = "ä".repeat(1000);
    let values = values(&labels(&long, &long));
    assert_eq!(values[8], "ä".repeat(128));
    assert_eq!(values[5], "ä".repeat(300));
    assert_eq!(floor_char_boundary("aä", 2), 1);
}

#[test]
fn overflow_keeps_the_reporter_and_the_policy_only() {
    let values = values(&Labels::overflow(
        Reporter::Source,
        SecurityPolicy::MutualTls,
    ));
    assert_eq!(values[0], "source");
    assert_eq!(values[20], "mutual_tls");
    assert_eq!(
        values.iter().filter(|value| *value == OVERFLOW).count(),
        NAMES.len() - 2
    );
}
