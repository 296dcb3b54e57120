//! The fields of authorization policies, read so that what cannot be read never lets anything through.
//!
//! A policy with mistakes is rejected. What is returned beside the mistakes is its fail-closed form: an ALLOW that
//! allows no more, a DENY that denies no less than the text meant.

use super::json::{Fields, Node, Place, boolean, choice, list, name, parsed, text, whole};
use super::objects::key_part;
use crate::authorization::{
    Action, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};

pub(super) fn authorization(node: &Node<'_>, place: &Place<'_>) -> Option<Authorization> {
    let mut o = Fields::open(node, place)?;
    let name = o.need("name", key_part);
    let namespace = o.need("namespace", key_part);
    let scope = o.need("scope", scope);
    let action = o.need("action", action);
    let dry_run = o.need("dryRun", boolean).unwrap_or(false);
    let before = place.mistakes();
    let rules = o.need("rules", |node, place| list(node, place, rule));
    let in_rules = place.mistakes() - before;
    o.close();
    let outside_rules = place.mistakes() - in_rules;

    let action = action?;
    let rules = match (rules, action) {
        // A field that we do not know may narrow the whole policy.
        (_, Action::Allow) if outside_rules > 0 => Vec::new(),
        (Some(rules), _) => rules,
        (None, Action::Allow) => Vec::new(),
        (None, Action::Deny) => vec![unreadable_rule()],
    };
    Some(Authorization {
        name: name?,
        namespace: namespace?,
        scope: scope?,
        action,
        rules,
        dry_run,
        unreadable: place.mistakes() > 0,
    })
}

fn scope(node: &Node<'_>, place: &Place<'_>) -> Option<Scope> {
    let words = [
        ("Global", Scope::Global),
        ("Namespace", Scope::Namespace),
        ("WorkloadSelector", Scope::WorkloadSelector),
    ];
    choice(node, place, &words)
}

fn action(node: &Node<'_>, place: &Place<'_>) -> Option<Action> {
    choice(
        node,
        place,
        &[("Allow", Action::Allow), ("Deny", Action::Deny)],
    )
}

/// Never `None`: a rule, clause or match left out would change what the policy says.
fn rule(node: &Node<'_>, place: &Place<'_>) -> Option<Rule> {
    Some(list(node, place, clause).map_or_else(unreadable_rule, Rule))
}

fn clause(node: &Node<'_>, place: &Place<'_>) -> Option<Clause> {
    Some(Clause(
        list(node, place, condition).unwrap_or_else(|| vec![unreadable_match()]),
    ))
}

fn condition(node: &Node<'_>, place: &Place<'_>) -> Option<Match> {
    let before = place.mistakes();
    let Some(mut o) = Fields::open(node, place) else {
        return Some(unreadable_match());
    };
    let mut found = Match {
        namespaces: wanted(&mut o, "namespaces", pattern),
        not_namespaces: unwanted(&mut o, "notNamespaces", pattern),
        service_accounts: wanted(&mut o, "serviceAccounts", service_account),
        not_service_accounts: unwanted(&mut o, "notServiceAccounts", service_account),
        principals: wanted(&mut o, "principals", pattern),
        not_principals: unwanted(&mut o, "notPrincipals", pattern),
        source_ips: wanted(&mut o, "sourceIps", parsed),
        not_source_ips: unwanted(&mut o, "notSourceIps", parsed),
        destination_ips: wanted(&mut o, "destinationIps", parsed),
        not_destination_ips: unwanted(&mut o, "notDestinationIps", parsed),
        destination_ports: wanted(&mut o, "destinationPorts", whole),
        not_destination_ports: unwanted(&mut o, "notDestinationPorts", whole),
        unreadable: false,
    };
    o.close();
    found.unreadable = place.mistakes() != before;
    Some(found)
}

/// A positive list: with an entry missing it would match less than was meant, so then it is no condition at all.
fn wanted<T>(
    o: &mut Fields<'_, '_>,
    field: &'static str,
    read: impl Fn(&Node<'_>, &Place<'_>) -> Option<T>,
) -> Vec<T> {
    let read_list = |node: &Node<'_>, place: &Place<'_>| {
        let before = place.mistakes();
        list(node, place, &read).filter(|_| place.mistakes() == before)
    };
    o.take(field, read_list).unwrap_or_default()
}

/// A negative list: with an entry missing it excludes less, so the match is wider than was meant.
fn unwanted<T>(
    o: &mut Fields<'_, '_>,
    field: &'static str,
    read: impl Fn(&Node<'_>, &Place<'_>) -> Option<T>,
) -> Vec<T> {
    o.take(field, |node: &Node<'_>, place: &Place<'_>| {
        list(node, place, &read)
    })
    .unwrap_or_default()
}

fn service_account(node: &Node<'_>, place: &Place<'_>) -> Option<ServiceAccountMatch> {
    let mut o = Fields::open(node, place)?;
    let namespace = o.need("namespace", name);
    let service_account = o.need("serviceAccount", name);
    o.close();
    Some(ServiceAccountMatch {
        namespace: namespace?,
        service_account: service_account?,
    })
}

fn pattern(node: &Node<'_>, place: &Place<'_>) -> Option<StringMatch> {
    let Node::Object(entries) = node else {
        return place.fault(format_args!(
            "expected a map such as {{\"Exact\": …}}, found {node}"
        ));
    };
    let [(kind, value)] = entries.as_slice() else {
        return place.fault("expected exactly one of Exact, Prefix, Suffix, Presence");
    };
    let at = place.field(kind);
    match &**kind {
        "Exact" => text(value, &at).map(StringMatch::Exact),
        "Prefix" => text(value, &at).map(StringMatch::Prefix),
        "Suffix" => text(value, &at).map(StringMatch::Suffix),
        "Presence" => presence(value, &at),
        _ => place.fault(format_args!(
            "expected one of Exact, Prefix, Suffix, Presence, found `{}`",
            crate::address::excerpt(kind)
        )),
    }
}

/// Upstream writes `[]`; a person writes `{}`.
fn presence(node: &Node<'_>, place: &Place<'_>) -> Option<StringMatch> {
    match node {
        Node::List(entries) if entries.is_empty() => Some(StringMatch::Presence),
        Node::Object(entries) if entries.is_empty() => Some(StringMatch::Presence),
        other => place.fault(format_args!("expected [], found {other}")),
    }
}

fn unreadable_rule() -> Rule {
    Rule(vec![Clause(vec![unreadable_match()])])
}

fn unreadable_match() -> Match {
    Match {
        unreadable: true,
        ..Match::default()
    }
}
