use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

fn line(format: Format, target: &str, message: &str, fields: &[(&str, Value<'_>)]) -> String {
    let mut out = String::new();
    Record {
        at: Timestamp(UNIX_EPOCH + Duration::from_micros(1_795_387_414_495_227)),
        level: Level::Info,
        target,
        message,
        fields,
    }
    .write(format, &mut out);
    out
}

#[test]
fn operational_lines_are_those_of_the_recording() {
    let fields = [
        ("address", Value::Address(([0, 0, 0, 0], 15008).into())),
        ("component", Value::Text("inbound")),
        ("transparent", Value::Flag(true)),
    ];
    assert_eq!(
        line(
            Format::Plain,
            "proxy::inbound",
            "listener established",
            &fields
        ),
        "2026-11-22T22:43:34.495227Z\tinfo\tproxy::inbound\tlistener established\t\
         address=0.0.0.0:15008 component=\"inbound\" transparent=true\n"
    );
    assert_eq!(
        line(Format::Json, "proxy::inbound", "listener established", &fields),
        r#"{"level":"info","time":"2026-11-22T22:43:34.495227Z","scope":"ztunnel::proxy::inbound","message":"listener established","address":"0.0.0.0:15008","component":"inbound","transparent":true}"#
            .to_owned() + "\n"
    );
    assert_eq!(
        line(Format::Plain, "app", "proxy mode enabled", &[]),
        "2026-11-22T22:43:34.495227Z\tinfo\tapp\tproxy mode enabled\t\n"
    );
}

#[test]
fn what_a_line_happened_in_stands_where_upstream_has_it() {
    let (text, span) = ("handling RBAC update deny-7301", ("xds", Value::Span(1)));
    assert_eq!(
        line(Format::Plain, "xds", text, &[span]),
        "2026-11-22T22:43:34.495227Z\tinfo\txds:xds{id=1}\thandling RBAC update deny-7301\t\n"
    );
    assert_eq!(
        line(Format::Json, "xds", text, &[span]),
        r#"{"level":"info","time":"2026-11-22T22:43:34.495227Z","scope":"ztunnel::xds","message":"handling RBAC update deny-7301","xds":{"id":1}}"#
            .to_owned() + "\n"
    );
    let fields = [span, ("error", Value::Text("e"))];
    assert!(
        line(Format::Plain, "xds", "m", &fields).ends_with("\txds:xds{id=1}\tm\terror=\"e\"\n")
    );
}

#[test]
fn json_scopes_have_the_crate_in_front_but_for_special_targets() {
    assert_eq!(
        line(Format::Json, "telemetry", "new log filter is info", &[]),
        r#"{"level":"info","time":"2026-11-22T22:43:34.495227Z","scope":"ztunnel::telemetry","message":"new log filter is info"}"#
            .to_owned() + "\n"
    );
    for target in ["dns", "access", "ztunnel"] {
        let scope = format!(r#""scope":"{target}""#);
        assert!(line(Format::Json, target, "", &[]).contains(&scope));
    }
}

#[test]
fn hostile_text_is_escaped() {
    let evil = "a\"b\\c\nlevel=info\r\t\u{1b}[31m\u{202e}\u{9b}";
    let fields = [("error", Value::Text(evil))];
    assert!(
        line(Format::Plain, "access", "m", &fields)
            .ends_with("\terror=\"a\\\"b\\\\c\\nlevel=info\\r\\t\\u{1b}[31m\\u{202e}\\u{9b}\"\n")
    );
    assert!(
        line(Format::Json, "access", "m", &fields)
            .ends_with(",\"error\":\"a\\\"b\\\\c\\nlevel=info\\r\\t\\u001b[31m\\u202e\\u009b\"}\n")
    );
}

#[test]
fn a_message_keeps_its_quotes_but_stays_one_line() {
    let text = line(Format::Plain, "app", "it's \"x\"\n\u{7}", &[]);
    assert!(text.ends_with("\tit's \"x\"\\n\\u{7}\t\n"), "{text}");
}

#[test]
fn a_bare_value_that_could_be_read_as_fields_is_quoted() {
    for (value, expected) in [
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("web.shop:80", "web.shop:80"),
        ("web x=y:80", "\"web x=y:80\""),
        ("a=b:80", "\"a=b:80\""),
        ("\u{1b}:80", "\"\\u{1b}:80\""),
        ("", "\"\""),
    ] {
        let text = line(Format::Plain, "access", "m", &[("a", Value::Bare(&value))]);
        assert!(text.ends_with(&format!("\ta={expected}\n")), "{text}");
    }
}

#[test]
fn absent_fields_leave_no_trace_and_long_ones_are_cut() {
    let long = "ü".repeat(4000);
    let fields = [
        ("a", Value::Absent),
        ("b", Value::Text(&long)),
        ("c", Value::Absent),
        ("d", Value::Number(7)),
    ];
    let text = line(Format::Plain, "access", "m", &fields);
    let expected = format!("\tm\tb=\"{}\" d=7\n", "ü".repeat(MAX_VALUE / 2));
    assert!(text.ends_with(&expected));
}

proptest! {
    /// Whatever a peer sends, JSON says it back and no line has a second line in it.
    #[test]
    fn any_value_survives_json_and_stays_on_one_line(value in any::<String>(), message in any::<String>()) {
        let fields = [("a", Value::Text(&value)), ("b", Value::Bare(&value))];
        let json = line(Format::Json, "access", &message, &fields);
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back["a"].as_str().unwrap(), cut(&value));
        prop_assert_eq!(back["b"].as_str().unwrap(), cut(&value));
        for text in [json, line(Format::Plain, "access", &message, &fields)] {
            let inner = text.strip_suffix('\n').unwrap();
            prop_assert!(!inner.chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
