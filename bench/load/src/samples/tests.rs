use super::Samples;

#[test]
fn percentiles_are_samples_that_were_there() {
    let mut samples = Samples::new();
    for micros in (1..=1000u32).rev() {
        samples.add(micros * 1000);
    }
    let summary = samples.summary();
    for (name, wanted) in [
        ("min", 1.0),
        ("p50", 500.0),
        ("p90", 900.0),
        ("p99", 990.0),
        ("p999", 999.0),
        ("max", 1000.0),
    ] {
        assert_eq!(summary[name], wanted, "{name}");
    }
}

#[test]
fn no_samples_give_no_percentiles() {
    assert!(Samples::new().summary()["p50"].is_null());
}
