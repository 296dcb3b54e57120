use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Takes everything.
struct All(Vec<u8>);

impl Out for All {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    fn breathe(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn written(json: &str, depth: usize) -> String {
    let mut out = All(Vec::new());
    assert!(value(json.as_bytes(), depth, &mut out).is_continue());
    String::from_utf8(out.0).unwrap()
}

fn spaced(json: &str) -> Option<String> {
    let mut text = Vec::new();
    space_out(json.as_bytes(), 0, &mut text)?;
    Some(String::from_utf8(text).unwrap())
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-c]{0,3}", r#"["\\: ,{}\[\]ü\n]{0,4}"#];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let members = btree_map(text.clone(), inner.clone(), 0..6);
        prop_oneof![
            vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_in_order_is_spaced_out_as_the_library_does_it(json in any_json()) {
        let pretty = serde_json::to_string_pretty(&json).unwrap();
        for text in [json.to_string(), pretty.clone()] {
            prop_assert_eq!(written(&text, 0), pretty.as_str());
            // It refuses nothing but escapes in keys, which the other way writes.
            match spaced(&text) {
                Some(spaced) => prop_assert_eq!(spaced, pretty.as_str()),
                None => prop_assert!(text.contains('\\')),
            }
        }
    }

    #[test]
    fn anything_is_written_or_left_to_the_other_way(text in r#"[{}\[\]",: a1\\]{0,12}"#) {
        if let Ok(json) = serde_json::from_str::<Value>(&text) {
            prop_assert_eq!(written(&text, 0), serde_json::to_string_pretty(&json).unwrap());
        } else {
            written(&text, 0);
        }
    }
}

#[test]
fn what_is_not_in_order_is_left_to_the_other_way() {
    for text in [
        r#"{"b":1,"a":2}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"c":1,"b":2}}"#,
        r#"{"aa":1,"a":2}"#,
        r#"{"\u0061":1}"#,
        "{]",
        "[1",
        r#"["a]"#,
        r#"["a\"#,
        "]",
    ] {
        assert_eq!(spaced(text), None, "{text}");
    }
    assert_eq!(
        written(r#"{"b":[{"d":1,"c":2}],"a":{}}"#, 0),
        serde_json::to_string_pretty(&json!({"a": {}, "b": [{"c": 2, "d": 1}]})).unwrap()
    );
}

#[test]
fn a_value_begins_where_it_stands() {
    assert_eq!(
        written(r#"{"a":[1]}"#, 2),
        "{\n      \"a\": [\n        1\n      ]\n    }"
    );
}
