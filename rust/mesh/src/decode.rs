//! Bytes from the control side become the types of this crate, or a rejection that says why not.
//!
//! A resource's value is one of Istio's protobuf messages, as istiod sends them (`decode/protobuf.rs`), or one JSON object
//! in the spelling of the local file (spec/control.md §3; `decode/json.rs` walks it, `decode/objects.rs` and
//! `decode/authorization.rs` know the fields). Both end in the same types after the same checks (`decode/texts.rs`,
//! `decode/closed.rs`); of a workload, whose texts others have as well, in parts that the caller makes one of. Every mistake is reported, each with the path of the field at fault.

use std::borrow::Cow;
use std::fmt;

use crate::authorization::Authorization;
use crate::service::Service;
use crate::workload::WorkloadParts;

mod authorization;
mod closed;
mod json;
mod objects;
mod place;
mod protobuf;
mod texts;

use json::Node;
use place::{Mistakes, Place};

/// A workload or a service as `istio.workload.Address`; its resource name is the workload's uid or the service's
/// `namespace/hostname`.
pub const TYPE_ISTIO_ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// An authorization policy as `istio.security.Authorization`; its resource name is its key.
pub const TYPE_ISTIO_AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
/// A workload; its resource name is its uid.
pub const TYPE_WORKLOAD: &str = "ztunnel.local/Workload";
/// A service; its resource name is `namespace/hostname`.
pub const TYPE_SERVICE: &str = "ztunnel.local/Service";
/// An authorization policy; its resource name is `namespace/name`.
pub const TYPE_AUTHORIZATION: &str = "ztunnel.local/Authorization";

/// A tree takes up to ten times the memory of its text; one object of 4 MiB is a service with 40,000 endpoints.
const MAX_JSON: usize = 4 << 20;

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
            TYPE_ISTIO_ADDRESS => "addresses",
            TYPE_AUTHORIZATION | TYPE_ISTIO_AUTHORIZATION => "policies",
            TYPE_SERVICE => "services",
            TYPE_WORKLOAD => "workloads",
            other => other,
        };
        write!(f, "{section} {:?}: {}", self.name, self.reason)
    }
}

/// A resource that was read; a workload as a `W`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, on the stack; a box would be an allocation for each service"
)]
pub(crate) enum Decoded<W> {
    Authorization(Authorization),
    Service(Service),
    Workload(W),
}

/// A resource that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reasons: Vec<String>,
    /// A policy whose scope and action are known but whose rules are not wholly: what can be enforced of it without
    /// letting anything through that it was meant to stop (spec/dataplane.md §20.2 item 9).
    pub(crate) fail_closed: Option<Authorization>,
}

/// Reads one resource. `build` makes a workload of its parts, which are borrowed from the resource.
pub(crate) fn decode<W>(
    resource: &Resource<'_>,
    build: impl FnOnce(WorkloadParts<'_>) -> W,
) -> Result<Decoded<W>, Refused> {
    let mistakes = Mistakes::default();
    let place = Place::root(&mistakes);
    let decoded = match resource.type_url {
        TYPE_ISTIO_ADDRESS => protobuf::address(resource.value, &place, build),
        TYPE_ISTIO_AUTHORIZATION => {
            protobuf::authorization(resource.value, &place).map(Decoded::Authorization)
        }
        TYPE_AUTHORIZATION | TYPE_SERVICE | TYPE_WORKLOAD => from_json(resource, &place, build),
        other => place.fault(format_args!(
            "unknown resource type: `{}`",
            crate::address::excerpt(other)
        )),
    };
    match decoded {
        Some(value) if mistakes.count() == 0 => Ok(value),
        decoded => Err(Refused {
            reasons: mistakes.into_reasons(),
            fail_closed: match decoded {
                Some(Decoded::Authorization(policy)) => Some(policy),
                _ => None,
            },
        }),
    }
}

fn from_json<W>(
    resource: &Resource<'_>,
    place: &Place<'_>,
    build: impl FnOnce(WorkloadParts<'_>) -> W,
) -> Option<Decoded<W>> {
    let value = resource.value;
    if value.len() > MAX_JSON {
        return place.fault(format_args!(
            "larger than {MAX_JSON} bytes: {}",
            value.len()
        ));
    }
    let node: Node<'_> = match serde_json::from_slice(value) {
        Ok(node) => node,
        Err(cause) => return place.fault(cause),
    };
    let decoded = match resource.type_url {
        TYPE_AUTHORIZATION => {
            authorization::authorization(&node, place).map(Decoded::Authorization)
        }
        TYPE_SERVICE => objects::service(&node, place).map(Decoded::Service),
        _ => objects::workload(&node, place).map(Decoded::Workload),
    };
    let named = decoded.filter(|value| goes_by_its_name(value, resource.name, place))?;
    Some(match named {
        Decoded::Authorization(policy) => Decoded::Authorization(policy),
        Decoded::Service(service) => Decoded::Service(service),
        Decoded::Workload(parts) => Decoded::Workload(build(parts)),
    })
}

/// A local file's object has no other name than what it calls itself. Istio's resources may: a workload and a service are
/// known by what they call themselves, a policy by the resource's name (spec/control.md §5.1, §5.4).
fn goes_by_its_name(value: &Decoded<WorkloadParts<'_>>, name: &str, place: &Place<'_>) -> bool {
    let own = match value {
        Decoded::Authorization(policy) => Cow::Owned(policy.key()),
        Decoded::Service(service) => Cow::Owned(service.key().to_string()),
        Decoded::Workload(parts) => Cow::Borrowed(parts.uid),
    };
    if own != name {
        place.note(format_args!(
            "is named `{}` but calls itself `{}`",
            crate::address::excerpt(name),
            crate::address::excerpt(&own)
        ));
    }
    own == name
}

/// The same with the parts of a workload as they are, for tests to look at.
#[cfg(test)]
fn decode_spec(resource: &Resource<'_>) -> Result<Decoded<crate::workload::WorkloadSpec>, Refused> {
    decode(resource, |parts| parts.into())
}

#[cfg(test)]
mod tests;
