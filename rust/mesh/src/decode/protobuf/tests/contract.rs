//! The messages are those of `proto/`: the same fields, numbers and kinds, and what is not read is left out knowingly.

use std::collections::BTreeSet;

const CONTRACTS: [&str; 2] = [
    include_str!("../../../../../../proto/workload.proto"),
    include_str!("../../../../../../proto/authorization.proto"),
];
const MESSAGES: &str = include_str!("../messages.rs");

/// What has no meaning for a proxy of connections.
const UNREAD: [&str; 6] = [
    "Authorization.extensions",
    "Match.extensions",
    "Port.appprotocol",
    "Service.extensions",
    "Service.ingressusewaypoint",
    "Workload.extensions",
];

/// (message and field, number, kind); a text, bytes and a message are one kind, for they are one on the wire.
type Field = (String, u32, String);

fn named(message: &str, field: &str) -> String {
    let field: String = field.chars().filter(|c| *c != '_').collect();
    format!("{message}.{}", field.to_lowercase())
}

fn contracts() -> BTreeSet<Field> {
    let text = CONTRACTS.concat();
    let enums: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("enum ")?.split(' ').next())
        .collect();
    let (mut fields, mut within, mut message) = (BTreeSet::new(), Vec::new(), "");
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.trim_end_matches(';').split(' ').collect();
        match words.as_slice() {
            ["message", name, "{"] => {
                message = name;
                within.push("message");
            }
            [kind @ ("enum" | "oneof"), _, "{"] => within.push(kind),
            ["}"] => drop(within.pop()),
            [.., name, "=", number] if within.last().is_some_and(|w| *w != "enum") => {
                let (label, kind) = match words.as_slice() {
                    [label @ ("repeated" | "optional"), kind, ..] => (*label, *kind),
                    [kind, "PortList>", ..] => ("repeated", *kind),
                    [kind, ..] => ("", *kind),
                    [] => ("", ""),
                };
                let kind = match kind {
                    "bool" | "uint32" => kind,
                    kind if enums.contains(&kind) => "int32",
                    _ => "bytes",
                };
                let number = number.parse().unwrap();
                fields.insert((named(message, name), number, format!("{label} {kind}")));
            }
            _ => {}
        }
    }
    fields
}

fn messages() -> BTreeSet<Field> {
    let (mut fields, mut message, mut attribute) = (BTreeSet::new(), "", "");
    for line in MESSAGES.lines().map(str::trim) {
        let words: Vec<&str> = line.split([' ', ':', '(']).collect();
        match words.as_slice() {
            ["pub", "crate)", "struct" | "enum", name, "{"] => {
                message = match *name {
                    "Type" => "Address",
                    "Destination" => "GatewayAddress",
                    "MatchType" => "StringMatch",
                    "Block" => "Address",
                    name => name,
                }
            }
            ["#[prost", ..] => attribute = line,
            _ if attribute.is_empty() || attribute.contains("oneof") => attribute = "",
            ["pub", "crate)", name, ..] | [name, ..] => {
                if !name.starts_with("//") && message != "ServicesEntry" {
                    let said = |word: &str| attribute.contains(word);
                    let kind = ["bool", "uint32", "int32"]
                        .into_iter()
                        .find(|kind| said(kind));
                    let kind = kind.unwrap_or("bytes");
                    let label = match () {
                        () if said("repeated") => "repeated",
                        // A message is there or not; only a scalar says so.
                        () if said("optional") && kind != "bytes" => "optional",
                        () => "",
                    };
                    let number = attribute.split('"').rev().nth(1).unwrap().parse().unwrap();
                    fields.insert((named(message, name), number, format!("{label} {kind}")));
                    attribute = "";
                }
            }
            [] => {}
        }
    }
    fields
}

#[test]
fn the_messages_are_those_of_the_contracts() {
    let (contracts, messages) = (contracts(), messages());
    let unknown: Vec<_> = messages.difference(&contracts).collect();
    assert!(unknown.is_empty(), "not in proto/: {unknown:?}");
    let unread = contracts.difference(&messages).map(|(name, ..)| name);
    let unread: Vec<_> = unread
        .filter(|name| !name.starts_with("Extension."))
        .collect();
    assert_eq!(unread, UNREAD);
    assert!(contracts.len() > 90, "{}", contracts.len());
}
