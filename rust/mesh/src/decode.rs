//! Bytes from the control side become the types of this crate, or a rejection that says why not.
//!
//! A resource's value is one JSON object in the spelling of the local file (spec/control.md §3). Every mistake in it is
//! reported, each with the path of the field at fault; `decode/json.rs` walks the value, `decode/objects.rs` knows the
//! fields.

use std::fmt;

use crate::authorization::Authorization;
use crate::service::Service;
use crate::workload::Workload;

mod authorization;
mod closed;
mod json;
mod objects;
mod parts;
mod place;
mod texts;

use json::Node;
use place::{Mistakes, Place};

/// A workload; its resource name is its uid.
pub const TYPE_WORKLOAD: &str = "ztunnel.local/Workload";
/// A service; its resource name is `namespace/hostname`.
pub const TYPE_SERVICE: &str = "ztunnel.local/Service";
/// An authorization policy; its resource name is `namespace/name`.
pub const TYPE_AUTHORIZATION: &str = "ztunnel.local/Authorization";

/// A tree takes up to ten times the memory of its text; one object of 4 MiB is a service with 40,000 endpoints.
const MAX_VALUE: usize = 4 << 20;

/// One thing the control side says there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// One of the `TYPE_…` constants.
    pub type_url: &'a str,
    /// Its name, by which it is replaced and removed.
    pub name: &'a str,
    /// What it is, as sent.
    pub value: &'a [u8],
}

/// One mistake in one resource; a resource with several mistakes has several rejections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The resource's type.
    pub type_url: String,
    /// The resource's name.
    pub name: String,
    /// The field's path, if one is at fault, and the cause: `workloadIps[1]: invalid IP address: …`.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = match self.type_url.as_str() {
            TYPE_AUTHORIZATION => "policies",
            TYPE_SERVICE => "services",
            TYPE_WORKLOAD => "workloads",
            other => other,
        };
        write!(f, "{section} {:?}: {}", self.name, self.reason)
    }
}

/// A resource that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Authorization(Authorization),
    Service(Service),
    Workload(Workload),
}

/// A resource that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reasons: Vec<String>,
    /// A policy whose scope and action are known but whose rules are not wholly: what can be enforced of it without
    /// letting anything through that it was meant to stop (spec/dataplane.md §20.2 item 9).
    pub(crate) fail_closed: Option<Authorization>,
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self {
            reasons: vec![reason],
            fail_closed: None,
        }
    }
}

/// Reads one resource.
pub(crate) fn decode(resource: &Resource<'_>) -> Result<Decoded, Refused> {
    if resource.value.len() > MAX_VALUE {
        return Err(format!("larger than {MAX_VALUE} bytes: {}", resource.value.len()).into());
    }
    let node: Node<'_> = serde_json::from_slice(resource.value).map_err(|e| e.to_string())?;
    let mistakes = Mistakes::default();
    let place = Place::root(&mistakes);
    let decoded = match resource.type_url {
        TYPE_AUTHORIZATION => {
            authorization::authorization(&node, &place).map(Decoded::Authorization)
        }
        TYPE_SERVICE => objects::service(&node, &place).map(Decoded::Service),
        TYPE_WORKLOAD => objects::workload(&node, &place).map(Decoded::Workload),
        other => {
            return Err(format!(
                "unknown resource type: `{}`",
                crate::address::excerpt(other)
            )
            .into());
        }
    };
    if let Some(value) = &decoded {
        check_name(value, resource.name, &place);
    }
    match decoded {
        Some(value) if mistakes.count() == 0 => Ok(value),
        Some(Decoded::Authorization(policy)) => Err(Refused {
            reasons: mistakes.into_reasons(),
            fail_closed: (policy.key() == resource.name).then_some(policy),
        }),
        _ => Err(Refused {
            reasons: mistakes.into_reasons(),
            fail_closed: None,
        }),
    }
}

/// Removal goes by resource name, so a value under another name than its own could never be removed.
fn check_name(value: &Decoded, name: &str, place: &Place<'_>) {
    let own = match value {
        Decoded::Authorization(policy) => policy.key(),
        Decoded::Service(service) => service.key().to_string(),
        Decoded::Workload(workload) => workload.uid.to_string(),
    };
    if own != name {
        place.note(format_args!(
            "is named `{}` but calls itself `{}`",
            crate::address::excerpt(name),
            crate::address::excerpt(&own)
        ));
    }
}

#[cfg(test)]
mod tests;
