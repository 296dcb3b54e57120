//! The fields of `istio.security.Authorization`, read so that what cannot be read never lets anything through;
//! `../authorization.rs` has them as JSON and says what is returned beside mistakes.

use prost::bytes::Bytes;

use super::super::closed;
use super::super::place::Place;
use super::super::texts::{self, bounded};
use super::{block, choice, ip, list, messages, part, port, text};
use crate::address::Cidr;
use crate::authorization::{
    Action, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};

pub(super) fn authorization(
    m: &messages::Authorization,
    place: &Place<'_>,
) -> Option<Authorization> {
    // Only a label: the key is the resource's name (spec/control.md §5.4). Under a bad one the policy can be enforced.
    let name = text(bounded)(&m.name, &place.field("name"));
    name.and_then(|name| texts::key_part(name, &place.field("name")));
    let namespace = text(texts::key_part)(&m.namespace, &place.field("namespace"));
    let scope = scope(m.scope, &place.field("scope"));
    let action = action(m.action, &place.field("action"));
    let outside_rules = place.mistakes() > 0;
    let rules = list(&m.rules, &place.field("rules"), rule);

    let action = action?;
    Some(Authorization {
        name: name.unwrap_or_default().into(),
        namespace: namespace?.into(),
        scope: scope?,
        action,
        rules: closed::rules(rules, action, outside_rules),
        dry_run: m.dry_run,
        unreadable: place.mistakes() > 0,
    })
}

fn scope(number: i32, place: &Place<'_>) -> Option<Scope> {
    let known = [
        (0, "GLOBAL", Scope::Global),
        (1, "NAMESPACE", Scope::Namespace),
        (2, "WORKLOAD_SELECTOR", Scope::WorkloadSelector),
    ];
    choice(number, place, &known)
}

fn action(number: i32, place: &Place<'_>) -> Option<Action> {
    let known = [(0, "ALLOW", Action::Allow), (1, "DENY", Action::Deny)];
    choice(number, place, &known)
}

/// Never `None`, like the two below: a rule, clause or match left out would change what the policy says.
fn rule(bytes: &Bytes, place: &Place<'_>) -> Option<Rule> {
    let read = part(bytes, place)
        .and_then(|m: messages::Rule| list(&m.clauses, &place.field("clauses"), clause));
    Some(read.map_or_else(closed::rule, Rule))
}

fn clause(bytes: &Bytes, place: &Place<'_>) -> Option<Clause> {
    let read = part(bytes, place)
        .and_then(|m: messages::Clause| list(&m.matches, &place.field("matches"), condition));
    Some(read.map_or_else(closed::clause, Clause))
}

fn condition(bytes: &Bytes, place: &Place<'_>) -> Option<Match> {
    let Some(m) = part::<messages::Match>(bytes, place) else {
        return Some(closed::condition());
    };
    let before = place.mistakes();
    let at = |field| place.field(field);
    let mut found = Match {
        namespaces: wanted(&m.namespaces, &at("namespaces"), pattern),
        not_namespaces: unwanted(&m.not_namespaces, &at("not_namespaces"), pattern),
        service_accounts: wanted(&m.service_accounts, &at("service_accounts"), account),
        not_service_accounts: unwanted(
            &m.not_service_accounts,
            &at("not_service_accounts"),
            account,
        ),
        principals: wanted(&m.principals, &at("principals"), pattern),
        not_principals: unwanted(&m.not_principals, &at("not_principals"), pattern),
        source_ips: wanted(&m.source_ips, &at("source_ips"), cidr),
        not_source_ips: unwanted(&m.not_source_ips, &at("not_source_ips"), cidr),
        destination_ips: wanted(&m.destination_ips, &at("destination_ips"), cidr),
        not_destination_ips: unwanted(&m.not_destination_ips, &at("not_destination_ips"), cidr),
        destination_ports: wanted(&m.destination_ports, &at("destination_ports"), any_port),
        not_destination_ports: unwanted(
            &m.not_destination_ports,
            &at("not_destination_ports"),
            any_port,
        ),
        unreadable: false,
    };
    found.unreadable = place.mistakes() != before;
    Some(found)
}

/// A positive list: with an entry missing it would match less than was meant, so then it is no condition at all.
fn wanted<'m, M, T>(
    entries: &'m [M],
    place: &Place<'_>,
    read: impl Fn(&'m M, &Place<'_>) -> Option<T>,
) -> Vec<T> {
    let before = place.mistakes();
    list(entries, place, read)
        .filter(|_| place.mistakes() == before)
        .unwrap_or_default()
}

/// A negative list: with an entry missing it excludes less, so the match is wider than was meant.
fn unwanted<'m, M, T>(
    entries: &'m [M],
    place: &Place<'_>,
    read: impl Fn(&'m M, &Place<'_>) -> Option<T>,
) -> Vec<T> {
    list(entries, place, read).unwrap_or_default()
}

fn pattern(m: &messages::StringMatch, place: &Place<'_>) -> Option<StringMatch> {
    let said = |bytes, field| text(bounded)(bytes, &place.field(field)).map(Into::into);
    match &m.match_type {
        Some(messages::MatchType::Exact(bytes)) => said(bytes, "exact").map(StringMatch::Exact),
        Some(messages::MatchType::Prefix(bytes)) => said(bytes, "prefix").map(StringMatch::Prefix),
        Some(messages::MatchType::Suffix(bytes)) => said(bytes, "suffix").map(StringMatch::Suffix),
        Some(messages::MatchType::Presence(())) => Some(StringMatch::Presence),
        None => place.fault("is none of exact, prefix, suffix, presence"),
    }
}

fn account(m: &messages::ServiceAccountMatch, place: &Place<'_>) -> Option<ServiceAccountMatch> {
    let said = |bytes, field| text(texts::name)(bytes, &place.field(field));
    let namespace = said(&m.namespace, "namespace");
    let service_account = said(&m.service_account, "serviceAccount");
    Some(ServiceAccountMatch {
        namespace: namespace?.into(),
        service_account: service_account?.into(),
    })
}

fn cidr(m: &messages::Block, place: &Place<'_>) -> Option<Cidr> {
    let address = ip(&m.address, &place.field("address"))?;
    block(address, m.length, &place.field("length"))
}

fn any_port(number: &u32, place: &Place<'_>) -> Option<u16> {
    port(*number, 0, place)
}
