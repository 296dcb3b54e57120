use super::*;

#[test]
fn requests_are_counted_by_who_asks_and_for_what() {
    let counted = OnDemand::default();
    let source = SideLabels {
        workload: "a",
        namespace: "shop",
        ..SideLabels::default()
    };
    for hostname in ["db.example.com", "db.example.com", "odd\"name"] {
        counted.count(&source, hostname);
    }
    let labels = |hostname: &str| {
        format!(
            "source_workload=\"a\",source_canonical_service=\"unknown\",source_canonical_revision=\"unknown\",\
             source_workload_namespace=\"shop\",source_principal=\"unknown\",source_app=\"unknown\",\
             source_version=\"unknown\",source_cluster=\"unknown\",hostname=\"{hostname}\""
        )
        .into()
    };
    let expected = vec![(labels("db.example.com"), 2), (labels("odd\\\"name"), 1)];
    assert_eq!(counted.totals(), expected);
}

#[test]
fn invented_names_end_in_one_set() {
    let counted = OnDemand::default();
    for index in 0..MAX_SERIES + 5 {
        counted.count(&SideLabels::default(), &format!("{index}.example.com"));
    }
    let totals = counted.totals();
    assert_eq!(totals.len(), MAX_SERIES + 1);
    let overflow = totals
        .iter()
        .find(|(labels, _)| labels.contains("hostname=\"overflow\""));
    assert_eq!(overflow.unwrap().1, 5);
}
