//! An answer of delta ADS as it stands on the wire, read as far as its names.
//!
//! Knows `DeltaDiscoveryResponse`, its `Resource`s and the envelope of each payload (spec/control.md §6.5). What is in a
//! payload is `decode`'s, what becomes of it is `store`'s; what is held afterwards, for resuming, is kept by [`Ledger`].
//! Nothing is copied and nothing is kept for each resource: a message is walked once to see that it is whole, and once more
//! by whoever wants its resources.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use crate::decode;
use crate::hash::Keyed;

mod ledger;
mod wire;

pub use ledger::{Held, Ledger};
pub use wire::Malformed;

use wire::{Fields, text};

/// Resources, aliases and removed names of one answer. Istio's limit of 200 MiB for a message (spec/control.md §4.2) would
/// let a hundred million empty ones in, and each costs whoever lists them a hundred bytes; the largest meshes have a
/// million.
const MAX_ENTRIES: usize = 4 << 20;

/// Why a resource without a payload is rejected; upstream's words (spec/control.md §4.6).
const NO_PAYLOAD: &str = "XDS payload without resource";

/// One answer: a message that is whole, of which every text is UTF-8.
#[derive(Debug)]
pub struct Response<B> {
    message: B,
    type_url: Range<usize>,
    nonce: Range<usize>,
    count: usize,
    removed: usize,
    payload: usize,
}

/// One resource of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the server calls this state of it; empty if it does not say.
    pub version: &'a str,
    /// What it is, encoded; `None`: the server sent a name without a thing.
    pub value: Option<&'a [u8]>,
    message: &'a [u8],
}

/// A message that cannot be an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAResponse {
    /// Where in it, counted from 0.
    resource: Option<usize>,
    cause: Malformed,
}

impl<B: AsRef<[u8]>> Response<B> {
    /// Reads a message, in one pass over everything but the payloads, and keeps it.
    ///
    /// # Errors
    /// It is not protobuf, ends too early, has a text that is not UTF-8, or lists more than a mesh has.
    pub fn read(message: B) -> Result<Self, NotAResponse> {
        let bytes = message.as_ref();
        let mut found = Outline::default();
        for field in Fields::of(bytes) {
            found.take(field.map_err(NotAResponse::whole)?)?;
        }
        let place = |text: &str| place_in(bytes, text);
        let (type_url, nonce) = (place(found.type_url), place(found.nonce));
        Ok(Self {
            type_url,
            nonce,
            count: found.count,
            removed: found.removed,
            payload: found.payload,
            message,
        })
    }

    /// Of what its resources are.
    #[must_use]
    pub fn type_url(&self) -> &str {
        self.part(&self.type_url)
    }

    /// By which it is acknowledged.
    #[must_use]
    pub fn nonce(&self) -> &str {
        self.part(&self.nonce)
    }

    /// How many resources it brings.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all payloads together, as `istio_xds_message_bytes` counts them (spec/control.md §12).
    #[must_use]
    pub const fn payload(&self) -> usize {
        self.payload
    }

    /// What it brings, in its order.
    pub fn resources(&self) -> impl Iterator<Item = Resource<'_>> {
        let bodies = self.fields().filter(|(number, _)| *number == RESOURCES);
        // None is lost: `read` has seen every one of them.
        bodies.filter_map(|(_, body)| Resource::read(body).ok())
    }

    /// Names of what is gone, in its order.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        let names = self.fields().filter(|(number, _)| *number == REMOVED);
        names.filter_map(|(_, name)| std::str::from_utf8(name).ok())
    }

    /// How many names [`Self::removed`] gives.
    #[must_use]
    pub const fn removed_count(&self) -> usize {
        self.removed
    }

    /// Those of `wanted` that a resource has as its name or as an alias, or that are said to be gone, in the order of
    /// `wanted`. istiod answers a wish for `network/ip` with a resource of another name that has it as an alias (recorded).
    #[must_use]
    pub fn answers<'w>(&self, wanted: &[&'w str]) -> Vec<&'w str> {
        let set: HashSet<&str, Keyed> = wanted.iter().copied().collect();
        let mut met: HashSet<&str, Keyed> = HashSet::default();
        let mut meet = |name: &str| {
            if let Some(name) = set.get(name) {
                met.insert(*name);
            }
        };
        if !set.is_empty() {
            for resource in self.resources() {
                meet(resource.name);
                resource.aliases().for_each(&mut meet);
            }
            self.removed().for_each(&mut meet);
        }
        let answered = wanted.iter().copied();
        answered.filter(|name| met.contains(name)).collect()
    }

    /// What the store can try, and rejections of what it cannot. The answer's type counts, not what a payload says of
    /// itself (spec/control.md §4.6).
    #[must_use]
    pub fn batch(&self) -> (Vec<decode::Resource<'_>>, Vec<decode::Rejection>) {
        let type_url = self.type_url();
        let mut batch = Vec::with_capacity(self.count);
        let mut rejections = Vec::new();
        for Resource { name, value, .. } in self.resources() {
            match value {
                Some(value) => batch.push(decode::Resource {
                    type_url,
                    name,
                    value,
                }),
                None => rejections.push(decode::Rejection {
                    type_url: type_url.into(),
                    name: name.into(),
                    reason: NO_PAYLOAD.into(),
                }),
            }
        }
        (batch, rejections)
    }

    /// Those with a length. None is lost: `read` has seen every one of them.
    fn fields(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let fields = Fields::of(self.message.as_ref()).map_while(Result::ok);
        fields.filter_map(|field| Some((field.number, field.bytes?)))
    }

    fn part(&self, place: &Range<usize>) -> &str {
        let bytes = self.message.as_ref().get(place.clone());
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.unwrap_or_default()
    }
}

impl<'a> Resource<'a> {
    /// Of a field that is there more than once the last one counts, and payloads are put together, as protobuf has it
    /// (protobuf.dev, "Last One Wins").
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self {
            name: "",
            version: "",
            value: None,
            message,
        };
        for field in Fields::of(message) {
            let field = field?;
            let Some(bytes) = field.bytes else { continue };
            match field.number {
                1 => found.version = text(field.number, bytes)?,
                2 => {
                    let value = found.value.get_or_insert_default();
                    payload(bytes, value)?;
                }
                3 => found.name = text(field.number, bytes)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// By which other names it can be asked for.
    pub fn aliases(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let fields = Fields::of(self.message).map_while(Result::ok);
        let aliases = fields.filter(|field| field.number == ALIASES);
        aliases.filter_map(|field| std::str::from_utf8(field.bytes?).ok())
    }

    /// How many aliases there are, if all of them are texts.
    fn count_aliases(&self) -> Result<usize, Malformed> {
        let mut count = 0;
        for field in Fields::of(self.message) {
            let field = field?;
            if let (ALIASES, Some(bytes)) = (field.number, field.bytes) {
                text(ALIASES, bytes)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// What `google.protobuf.Any` holds. Its own type is not believed, but it has to be a text.
fn payload<'a>(message: &'a [u8], value: &mut &'a [u8]) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        let field = field?;
        match (field.number, field.bytes) {
            (1, Some(bytes)) => {
                text(1, bytes)?;
            }
            (2, Some(bytes)) => *value = bytes,
            _ => {}
        }
    }
    Ok(())
}

/// What a walk has seen so far.
#[derive(Default)]
struct Outline<'a> {
    type_url: &'a str,
    nonce: &'a str,
    count: usize,
    aliases: usize,
    removed: usize,
    payload: usize,
}

impl<'a> Outline<'a> {
    fn take(&mut self, field: wire::Field<'a>) -> Result<(), NotAResponse> {
        let Some(bytes) = field.bytes else {
            return Ok(());
        };
        let text = |bytes| text(field.number, bytes).map_err(NotAResponse::whole);
        match field.number {
            RESOURCES => self.take_resource(bytes)?,
            4 => self.type_url = text(bytes)?,
            5 => self.nonce = text(bytes)?,
            REMOVED => {
                text(bytes)?;
                self.removed += 1;
            }
            _ => {}
        }
        if self.count + self.aliases + self.removed > MAX_ENTRIES {
            return Err(NotAResponse::whole(Malformed::TooMany(MAX_ENTRIES)));
        }
        Ok(())
    }

    fn take_resource(&mut self, body: &'a [u8]) -> Result<(), NotAResponse> {
        let at = |cause| NotAResponse {
            resource: Some(self.count),
            cause,
        };
        let resource = Resource::read(body).map_err(at)?;
        self.aliases += resource.count_aliases().map_err(at)?;
        self.payload += resource.value.map_or(0, <[u8]>::len);
        self.count += 1;
        Ok(())
    }
}

/// Where a text that was read from a message stands in it.
fn place_in(message: &[u8], text: &str) -> Range<usize> {
    // A text that is not there is a constant somewhere else.
    let start = (text.as_ptr() as usize).wrapping_sub(message.as_ptr() as usize);
    if text.is_empty() || start >= message.len() {
        return 0..0;
    }
    start..start + text.len()
}

impl NotAResponse {
    const fn whole(cause: Malformed) -> Self {
        let resource = None;
        Self { resource, cause }
    }
}

impl fmt::Display for NotAResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a DeltaDiscoveryResponse: ")?;
        if let Some(resource) = self.resource {
            write!(f, "resources[{resource}]: ")?;
        }
        write!(f, "{}", self.cause)
    }
}

impl std::error::Error for NotAResponse {}

/// Fields of `DeltaDiscoveryResponse` and of its `Resource`.
const RESOURCES: u64 = 2;
const REMOVED: u64 = 6;
const ALIASES: u64 = 4;

#[cfg(test)]
mod tests;
