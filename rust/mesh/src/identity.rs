//! Who a workload is: trust domains and SPIFFE IDs.
//!
//! Parsing only; which certificate proves an identity is decided in `proxy::tls::verify`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// Longest SPIFFE ID that is read, in bytes (SPIFFE-ID standard §2.3).
const MAX_SPIFFE_ID: usize = 2048;

/// The root of a set of identities that trust the same signers, for example `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a trust domain: lower-case letters, digits, `.`, `-` and `_`, not empty.
    ///
    /// # Errors
    /// [`IdentityError::TrustDomain`] when another character occurs or nothing is there.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
            return Err(IdentityError::TrustDomain(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The same, with another copy of the text.
    pub(crate) fn map_text(self, copy: impl FnOnce(Arc<str>) -> Arc<str>) -> Self {
        Self(copy(self.0))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID in Istio's form: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
///
/// Stricter than upstream on purpose (spec/reliability.md §2 U8): empty segments, `.` and `..`, percent
/// escapes, queries and fragments are refused, so that one identity has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The trust domain that vouches for it.
    pub trust_domain: TrustDomain,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Kubernetes service account.
    pub service_account: Arc<str>,
}

impl Identity {
    /// Builds an identity from parts that were checked elsewhere or come from the operator.
    ///
    /// # Errors
    /// As [`Identity::parse`], for the part that is at fault.
    pub fn new(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, IdentityError> {
        Ok(Self {
            trust_domain: TrustDomain::parse(trust_domain)?,
            namespace: segment(namespace)?,
            service_account: segment(service_account)?,
        })
    }

    /// Parses the text form (spec/control.md §7.1).
    ///
    /// # Errors
    /// Says which part is not as it must be.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Form(text.chars().take(128).collect());
        if text.len() > MAX_SPIFFE_ID {
            return Err(bad());
        }
        let mut parts = text.strip_prefix("spiffe://").ok_or_else(bad)?.split('/');
        let mut next = || parts.next().ok_or_else(bad);
        let (domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(bad());
        }
        Self::new(domain, namespace, account)
    }

    /// The text form without its scheme, as authorization principals spell it.
    #[must_use]
    pub fn principal(&self) -> String {
        format!(
            "{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn segment(text: &str) -> Result<Arc<str>, IdentityError> {
    check_segment(text).map(|()| text.into())
}

/// Whether a text can be a namespace or a service account in a SPIFFE ID.
pub(crate) fn check_segment(text: &str) -> Result<(), IdentityError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if text.is_empty() || text == "." || text == ".." || !text.bytes().all(allowed) {
        return Err(IdentityError::Segment(text.chars().take(128).collect()));
    }
    Ok(())
}

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    #[error(
        "not a SPIFFE ID of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>: `{0}`"
    )]
    Form(String),
    /// A path segment is empty, a dot segment, or holds a character outside `[A-Za-z0-9._-]`.
    #[error("not a SPIFFE path segment (letters, digits, `.`, `-`, `_`): `{0}`")]
    Segment(String),
    /// The trust domain is empty or holds a character outside `[a-z0-9._-]`.
    #[error("not a SPIFFE trust domain (lower-case letters, digits, `.`, `-`, `_`): `{0}`")]
    TrustDomain(String),
}

#[cfg(test)]
mod tests;
