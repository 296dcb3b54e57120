//! What is enforced of a policy that could not be read wholly; the same for every encoding.
//!
//! An ALLOW must allow no more and a DENY deny no less than what was meant (spec/dataplane.md §20.2 item 9).

use crate::authorization::{Action, Clause, Match, Rule};

/// The rules to enforce, if the whole list of them could be read; `outside` says whether something else in the policy
/// could not.
pub(super) fn rules(read: Option<Vec<Rule>>, action: Action, outside: bool) -> Vec<Rule> {
    match (read, action) {
        // What we do not know may narrow the whole policy.
        (_, Action::Allow) if outside => Vec::new(),
        (Some(rules), _) => rules,
        (None, Action::Allow) => Vec::new(),
        (None, Action::Deny) => vec![rule()],
    }
}

/// In the place of a rule.
pub(super) fn rule() -> Rule {
    Rule(vec![clause()])
}

/// In the place of a clause.
pub(super) fn clause() -> Clause {
    Clause(vec![condition()])
}

/// In the place of a match object.
pub(super) fn condition() -> Match {
    Match {
        unreadable: true,
        ..Match::default()
    }
}
