use std::time::Duration;

use super::*;

const RECORDED: &str = include_str!("../../../../../tests/vectors/upstream/node-a-metrics.txt");

fn shown(xds: &Xds) -> String {
    let mut text = Exposition::default();
    xds.show(&mut text);
    String::from_utf8(text.into_bytes()).unwrap()
}

#[test]
fn what_was_not_counted_is_not_shown() {
    let xds = Xds::default();
    let mut text = Exposition::default();
    xds.show(&mut text);
    xds.show_age(&mut text, Instant::now());
    assert_eq!(text.len(), 0);
}

#[test]
fn answers_are_shown_as_in_the_recording() {
    let xds = Xds::default();
    let now = Instant::now();
    xds.answered("type.googleapis.com/istio.workload.Address", 3892, now);
    xds.answered("type.googleapis.com/istio.security.Authorization", 471, now);
    // Upstream's samples of a family come in no order.
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    let recorded: Vec<_> = RECORDED
        .lines()
        .filter(|l| l.contains("istio_xds"))
        .collect();
    assert_eq!(recorded.len(), 9);
    assert_eq!(sorted(&shown(&xds)), sorted(&recorded.join("\n")));
    let heads = |text: &str| -> Vec<String> {
        let heads = text.lines().filter(|line| line.starts_with('#'));
        heads.map(ToOwned::to_owned).collect()
    };
    assert_eq!(heads(&shown(&xds)), heads(&recorded.join("\n")));
}

#[test]
fn ends_of_streams_are_counted_by_reason() {
    let xds = Xds::default();
    for reason in ["Reconnect", "Complete", "Reconnect"] {
        xds.ended(StreamEnd::parse(reason).unwrap());
    }
    assert_eq!(StreamEnd::parse("reconnect"), None);
    assert_eq!(
        shown(&xds),
        "# HELP istio_xds_connection_terminations The total number of completed connections to xds server (unstable).\n\
         # TYPE istio_xds_connection_terminations counter\n\
         istio_xds_connection_terminations_total{reason=\"Complete\"} 1\n\
         istio_xds_connection_terminations_total{reason=\"Reconnect\"} 2\n"
    );
}

#[test]
fn a_server_that_makes_types_up_does_not_fill_the_page() {
    let xds = Xds::default();
    let now = Instant::now();
    for number in 0..1000 {
        xds.answered(&format!("t/{number}"), 1, now);
    }
    xds.answered("a \"quoted\"\nline", 1, now);
    xds.answered(&"long".repeat(100), 1, now);
    let text = shown(&xds);
    assert_eq!(text.lines().count(), 5 + 2 * (MAX_TYPES + 1));
    assert!(text.contains("istio_xds_message_total{url=\"overflow\"} 986\n"));
}

#[test]
fn the_age_is_that_of_the_last_answer() {
    let xds = Xds::default();
    let now = Instant::now();
    xds.answered("t", 1, now);
    let mut text = Exposition::default();
    xds.show_age(&mut text, now + Duration::from_millis(1500));
    let text = String::from_utf8(text.into_bytes()).unwrap();
    assert!(text.ends_with(
        "# UNIT ztunnel_xds_last_update_age_seconds seconds\nztunnel_xds_last_update_age_seconds 1.500\n"
    ));
}
