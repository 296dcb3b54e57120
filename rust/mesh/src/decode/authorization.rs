//! The fields of authorization policies as JSON, read so that what cannot be read never lets anything through.
//!
//! A policy with mistakes is rejected. What is returned beside the mistakes is its fail-closed form: an ALLOW that
//! allows no more, a DENY that denies no less than the text meant.

use super::closed;
use super::json::{Fields, Node, boolean, choice, list, parsed, text, whole};
use super::place::Place;
use super::texts::{self, bounded};
use crate::authorization::{
    Action, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};

pub(super) fn authorization(node: &Node<'_>, place: &Place<'_>) -> Option<Authorization> {
    let mut o = Fields::open(node, place)?;
    let name = o.need("name", text(texts::key_part));
    let namespace = o.need("namespace", text(texts::key_part));
    let scope = o.need("scope", scope);
    let action = o.need("action", action);
    let dry_run = o.need("dryRun", boolean).unwrap_or(false);
    let before = place.mistakes();
    let rules = o.need("rules", |node, place| list(node, place, rule));
    let in_rules = place.mistakes() - before;
    o.close();
    let outside_rules = place.mistakes() - in_rules;

    let action = action?;
    Some(Authorization {
        name: name?.into(),
        namespace: namespace?.into(),
        scope: scope?,
        action,
        rules: closed::rules(rules, action, outside_rules > 0),
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
    Some(list(node, place, clause).map_or_else(closed::rule, Rule))
}

fn clause(node: &Node<'_>, place: &Place<'_>) -> Option<Clause> {
    Some(list(node, place, condition).map_or_else(closed::clause, Clause))
}

fn condition(node: &Node<'_>, place: &Place<'_>) -> Option<Match> {
    let before = place.mistakes();
    let Some(mut o) = Fields::open(node, place) else {
        return Some(closed::condition());
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
    let namespace = o.need("namespace", text(texts::name));
    let service_account = o.need("serviceAccount", text(texts::name));
    o.close();
    Some(ServiceAccountMatch {
        namespace: namespace?.into(),
        service_account: service_account?.into(),
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
    let text = |value| text(bounded)(value, &at).map(Into::into);
    match &**kind {
        "Exact" => text(value).map(StringMatch::Exact),
        "Prefix" => text(value).map(StringMatch::Prefix),
        "Suffix" => text(value).map(StringMatch::Suffix),
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
