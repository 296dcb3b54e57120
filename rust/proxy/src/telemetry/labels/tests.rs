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
        claimed: false,
    }
}

/// Names and values as a scraper reads them; no value here holds a quote.
fn read(labels: &Labels<'_>) -> Vec<(String, String)> {
    labels
        .text()
        .as_str()
        .split("\",")
        .map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        })
        .collect()
}

fn value(labels: &Labels<'_>, name: &str) -> String {
    let all = read(labels);
    let found = all.iter().find(|(known, _)| known == name);
    found.unwrap().1.clone()
}

#[test]
fn there_is_one_value_for_each_name() {
    let names: Vec<_> = read(&labels("", ""))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), 27);
    assert!(names.iter().all(|name| !name.is_empty()));
    let (before, after) = (&names[..22], &names[22..]);
    assert_eq!(before[20..], ["request_protocol", "response_flags"]);
    assert_eq!(after[0], "connection_security_policy");
}

#[test]
fn the_flag_has_its_gap() {
    let text = labels("", "").text();
    let (before, after) = text.around_flag();
    assert!(before.ends_with("response_flags=\""));
    assert!(after.starts_with("\",connection_security_policy="));
}

#[test]
fn an_empty_value_is_unknown() {
    let all = read(&labels("", ""));
    assert_eq!(all[0], ("reporter".into(), "source".into()));
    let given = ["reporter", "request_protocol", "response_flags"];
    let empty = all.iter().filter(|(name, _)| !given.contains(&&**name));
    assert!(empty.clone().count() == 24 && empty.clone().all(|(_, value)| value == "unknown"));
}

#[test]
fn no_value_can_pass_for_two() {
    let hostile = labels("east\u{1f}west\n\0", "");
    assert_eq!(
        value(&hostile, "source_cluster"),
        "east\u{fffd}west\u{fffd}\u{fffd}"
    );
    let forged = labels("east\",destination_service=\"bank", "").text();
    assert!(
        forged
            .as_str()
            .contains(r#"source_cluster="east\",destination_service=\"bank","#)
    );
}

#[test]
fn different_sets_have_different_texts() {
    let texts = [
        labels("a", "b"),
        labels("b", "a"),
        labels("a\"", "b"),
        labels("a\\", "b"),
        labels("a\\\"", "b"),
    ]
    .map(|labels| labels.text().as_str().clone());
    for (number, text) in texts.iter().enumerate() {
        assert!(!texts[..number].contains(text), "{text}");
    }
}

#[test]
fn long_values_are_cut_between_characters() {
    let long = "ä".repeat(1000);
    let long = labels(&long, &long);
    assert_eq!(value(&long, "source_cluster"), "ä".repeat(128));
    assert_eq!(value(&long, "source_principal"), "ä".repeat(300));
    assert_eq!(floor_char_boundary("aä", 2), 1);
}

#[test]
fn overflow_keeps_the_reporter_and_the_policy_only() {
    let overflow = Labels::overflow(Reporter::Source, SecurityPolicy::MutualTls);
    let all = read(&overflow);
    assert_eq!(all[0].1, "source");
    assert_eq!(value(&overflow, "connection_security_policy"), "mutual_tls");
    let replaced = all.iter().filter(|(_, value)| *value == OVERFLOW).count();
    assert_eq!(replaced, 23);
}
