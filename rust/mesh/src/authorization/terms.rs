//! By what a policy can be found without being asked: of its terms, at least one must be true of any connection that it
//! matches.
//!
//! What is found this way is still asked (`Authorization::matches`): terms may be true where a policy does not match, never
//! the other way round. `snapshot::policies` keeps policies by their terms.

use super::{Authorization, Clause, Match, Rule, ServiceAccountMatch, StringMatch};
use crate::address::Cidr;

/// One thing that can be true of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Term<'a> {
    Account(&'a ServiceAccountMatch),
    Destination(Cidr),
    Namespace(&'a StringMatch),
    Port(u16),
    Principal(&'a StringMatch),
    Source(Cidr),
}

/// The terms of a policy; none if it may match anything. Without rules it matches nothing and has no terms.
pub(crate) fn terms(policy: &Authorization) -> Option<Vec<Term<'_>>> {
    let mut all = Vec::new();
    for rule in &policy.rules {
        all.extend(of_rule(rule)?);
    }
    Some(all)
}

/// All clauses must match, so those of one are enough: the one of which the fewest connections are to be expected.
fn of_rule(rule: &Rule) -> Option<Vec<Term<'_>>> {
    let clauses = rule.0.iter().filter_map(of_clause);
    let (_, terms) = clauses.min_by_key(|(width, _)| *width)?;
    Some(terms)
}

/// One of the match objects must match, so those of all are needed; an empty clause always matches.
fn of_clause(clause: &Clause) -> Option<(Width, Vec<Term<'_>>)> {
    if clause.0.is_empty() {
        return None;
    }
    let (mut widest, mut all) = (Width::Principal, Vec::new());
    // Without conditions it never matches.
    for object in clause.0.iter().filter(|m| **m != Match::default()) {
        let (width, terms) = of_match(object)?;
        widest = widest.max(width);
        all.extend(terms);
    }
    Some((widest, all))
}

/// How many different connections a term is true of, the fewest first. A guess about meshes, not about right and wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Principal,
    Account,
    Namespace,
    Source,
    Pattern,
    Destination,
    Port,
}

/// All conditions must hold, so one positive list is enough.
fn of_match(object: &Match) -> Option<(Width, Vec<Term<'_>>)> {
    let m = object;
    let lists = [
        texts(&m.principals, Width::Principal, Term::Principal),
        list(&m.service_accounts, Width::Account, Term::Account),
        texts(&m.namespaces, Width::Namespace, Term::Namespace),
        list(&m.source_ips, Width::Source, |block| Term::Source(*block)),
        list(&m.destination_ips, Width::Destination, |block| {
            Term::Destination(*block)
        }),
        list(&m.destination_ports, Width::Port, |port| Term::Port(*port)),
    ];
    let usable = lists.into_iter().flatten();
    usable.min_by_key(|(width, _)| *width)
}

fn list<'a, T>(
    entries: &'a [T],
    width: Width,
    term: impl Fn(&'a T) -> Term<'a>,
) -> Option<(Width, Vec<Term<'a>>)> {
    let terms: Vec<_> = entries.iter().map(term).collect();
    (!terms.is_empty()).then_some((width, terms))
}

fn texts<'a>(
    entries: &'a [StringMatch],
    width: Width,
    term: impl Fn(&'a StringMatch) -> Term<'a>,
) -> Option<(Width, Vec<Term<'a>>)> {
    // Nearly everybody has a name.
    if entries.contains(&StringMatch::Presence) {
        return None;
    }
    let exact = entries.iter().all(|e| matches!(e, StringMatch::Exact(_)));
    list(entries, if exact { width } else { Width::Pattern }, term)
}
