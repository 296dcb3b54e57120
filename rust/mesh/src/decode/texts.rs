//! What a text must be to stand in a certain field; the same for every encoding.
//!
//! Texts stay borrowed from the resource: whoever keeps one decides whether it is kept once for many.

use std::sync::LazyLock;

use super::place::Place;
use crate::identity::{TrustDomain, check_segment};

/// No name in a mesh is longer: a SPIFFE ID has at most 2048 bytes (SPIFFE-ID standard §2.3), a hostname 253. Texts become
/// labels of metrics and fields of log lines, so a longer one costs at every scrape and connection.
pub(super) const MAX_TEXT: usize = 2048;

/// Any text.
pub(super) fn bounded<'t>(text: &'t str, place: &Place<'_>) -> Option<&'t str> {
    if text.len() > MAX_TEXT {
        return place.fault(format_args!("longer than {MAX_TEXT} bytes: {}", text.len()));
    }
    Some(text)
}

/// A text that must not be empty.
pub(super) fn name<'t>(text: &'t str, place: &Place<'_>) -> Option<&'t str> {
    match bounded(text, place) {
        Some("") => place.fault("must not be empty"),
        text => text,
    }
}

/// A part of a resource name, which is split at its slash.
pub(super) fn key_part<'t>(text: &'t str, place: &Place<'_>) -> Option<&'t str> {
    match name(text, place) {
        Some(text) if text.contains('/') => place.fault("must not contain a slash"),
        text => text,
    }
}

/// A part of a SPIFFE ID's path.
pub(super) fn path_segment<'t>(text: &'t str, place: &Place<'_>) -> Option<&'t str> {
    let text = bounded(text, place)?;
    check_segment(text).map_or_else(|cause| place.fault(cause), |()| Some(text))
}

/// A service account; nothing said means `default` (spec/control.md §5.1).
pub(super) fn service_account<'t>(text: &'t str, place: &Place<'_>) -> Option<&'t str> {
    match text {
        "" => Some("default"),
        text => path_segment(text, place),
    }
}

/// A trust domain; nothing said means `cluster.local` (spec/control.md §5.1).
pub(super) fn trust_domain(text: &str, place: &Place<'_>) -> Option<TrustDomain> {
    static DEFAULT: LazyLock<TrustDomain> =
        LazyLock::new(|| TrustDomain::parse("cluster.local").expect("is a trust domain"));
    if text.is_empty() {
        return Some(DEFAULT.clone());
    }
    let text = bounded(text, place)?;
    TrustDomain::parse(text).map_or_else(|cause| place.fault(cause), Some)
}

/// A cluster's name; nothing said means `Kubernetes` (spec/control.md §5.1).
pub(super) fn cluster<'t>(text: &'t str, place: &Place<'_>) -> Option<&'t str> {
    match bounded(text, place) {
        Some("") => Some("Kubernetes"),
        text => text,
    }
}
