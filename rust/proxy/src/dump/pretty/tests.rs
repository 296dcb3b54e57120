use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Serializer;
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

fn thing_written(item: &impl Serialize, depth: usize) -> String {
    let mut out = All(Vec::new());
    assert!(thing(item, depth, &mut out).is_continue());
    String::from_utf8(out.0).unwrap()
}

fn spelled(item: &impl Serialize) -> Option<String> {
    let mut text = Vec::new();
    spell(item, 0, &mut text)?;
    Some(String::from_utf8(text).unwrap())
}

/// Members as they are, in whatever order.
struct Members<'m, K>(&'m [(K, i32)]);

impl<K: Serialize + Copy> Serialize for Members<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
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
    fn a_thing_is_spelled_as_the_library_does_it(json in any_json(), depth in 0_usize..4) {
        prop_assert_eq!(thing_written(&json, depth), written(&json.to_string(), depth));
        let pretty = serde_json::to_string_pretty(&json).unwrap();
        // It refuses nothing but escapes in keys, which the other way writes.
        match spelled(&json) {
            Some(spelled) => prop_assert_eq!(spelled, pretty.as_str()),
            None => prop_assert!(pretty.contains('\\')),
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

#[test]
fn a_thing_whose_keys_are_not_in_order_is_left_to_the_other_way() {
    for (members, expected) in [
        (Members(&[("b", 1), ("a", 2)]), r#"{"a":2,"b":1}"#),
        (Members(&[("aa", 1), ("a", 2)]), r#"{"a":2,"aa":1}"#),
        (Members(&[("a", 1), ("", 2)]), r#"{"":2,"a":1}"#),
        (Members(&[("a", 1), ("a", 2)]), r#"{"a":2}"#),
        (Members(&[("\"", 1)]), r#"{"\"":1}"#),
    ] {
        assert_eq!(spelled(&members), None, "{expected}");
        assert_eq!(thing_written(&members, 1), written(expected, 1));
        // Nor one that it is within; one beside it has an order of its own.
        assert_eq!(spelled(&[members]), None, "{expected}");
    }
    let in_order = [
        Members(&[("b", 1), ("c", 2)]),
        Members(&[("a", 1), ("b", 2)]),
    ];
    assert_eq!(
        spelled(&in_order),
        serde_json::to_string_pretty(&in_order).ok()
    );
}

#[test]
fn numbers_as_keys_are_in_the_order_of_their_texts() {
    let in_order = Members(&[(443_u16, 1), (80, 1), (8080, 1)]);
    assert_eq!(
        spelled(&in_order),
        serde_json::to_string_pretty(&in_order).ok()
    );
    let by_number = Members(&[(80_u16, 1), (443, 1)]);
    assert_eq!(spelled(&by_number), None);
    assert_eq!(
        thing_written(&by_number, 0),
        written(r#"{"443":1,"80":1}"#, 0)
    );
}

#[test]
fn a_thing_that_is_long_or_deep_is_left_to_the_other_way() {
    let long = json!({"a": vec!["0123456789"; AT_ONCE / 10]});
    assert_eq!(spelled(&long), None);
    assert_eq!(
        thing_written(&long, 0),
        serde_json::to_string_pretty(&long).unwrap()
    );
    let mut deep = json!(1);
    for _ in 0..MAX_DEPTH {
        deep = json!([deep]);
    }
    assert_eq!(spelled(&deep), None);
    let read: Value = serde_json::from_str(&thing_written(&deep, 0)).unwrap();
    assert_eq!(read, deep);
}
