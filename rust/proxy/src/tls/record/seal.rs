//! Making records: a payload between room for a header and a tag becomes one, where it lies.
//!
//! Counts what its key has sealed and says when it is worn; the key update itself is `record`'s.

use super::keys::TrafficKey;
use super::{APPLICATION_DATA, RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER, TAG, TlsError};

pub(super) struct Sealer {
    key: TrafficKey,
    /// Payload bytes that `key` has sealed.
    sealed: u64,
    /// As asked for in the settings.
    key_update_after: Option<u64>,
}

/// AES-GCM gives an attacker less than 2^-57 if a key seals at most 2^24.5 full records (RFC 8446 §5.5); rustls stops
/// at 2^24 too. Two are left for the key update itself and for an alert.
const MAX_RECORDS: u64 = (1 << 24) - 2;

impl Sealer {
    pub(super) fn new(key: TrafficKey, key_update_after: Option<u64>) -> Self {
        Self {
            key,
            sealed: 0,
            key_update_after,
        }
    }

    /// No more data should be sealed with this key.
    #[inline]
    pub(super) fn is_worn(&self) -> bool {
        self.key.used() >= MAX_RECORDS
            || self
                .key_update_after
                .is_some_and(|limit| self.sealed >= limit)
    }

    pub(super) fn renew(&mut self, key: TrafficKey) {
        self.key = key;
        self.sealed = 0;
    }

    /// Appends a record; `payload` is at most [`RECORD_PAYLOAD`] bytes.
    pub(super) fn append(
        &mut self,
        kind: u8,
        payload: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let start = outgoing.len();
        outgoing.reserve(RECORD_HEADER + payload.len() + RECORD_TRAILER);
        outgoing.extend_from_slice(&[0; RECORD_HEADER]);
        outgoing.extend_from_slice(payload);
        outgoing.extend_from_slice(&[0; RECORD_TRAILER]);
        self.seal(kind, &mut outgoing[start..])
            .inspect_err(|_| outgoing.truncate(start))
    }

    /// Makes a record of `[header][payload][type and tag]`, of which the payload is written.
    #[inline]
    pub(super) fn seal(&mut self, kind: u8, record: &mut [u8]) -> Result<(), TlsError> {
        let (header, sealed) = record.split_at_mut(RECORD_HEADER);
        let (inner, tag) = sealed.split_at_mut(sealed.len() - TAG);
        let payload = inner.len() - 1;
        inner[payload] = kind;
        // No padding: the lengths of what a proxy passes on are the application's own.
        debug_assert!(payload <= RECORD_PAYLOAD);
        header.copy_from_slice(&header_of(inner.len() + TAG));
        let (aead, nonce) = self.key.once()?;
        let made = aead
            .seal(nonce, header, inner)
            .map_err(|_| TlsError::Internal("a record cannot be sealed".into()))?;
        tag.copy_from_slice(&made);
        self.sealed += payload as u64;
        Ok(())
    }
}

#[cfg(test)]
impl Sealer {
    /// Seals what no sane peer would: `inner` is payload, type and padding as they come.
    pub(super) fn forge(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut record = header_of(inner.len() + TAG).to_vec();
        let header = record.clone();
        let mut sealed = inner.to_vec();
        let (aead, nonce) = self.key.once().unwrap();
        let tag = aead.seal(nonce, &header, &mut sealed).unwrap();
        record.extend_from_slice(&sealed);
        record.extend_from_slice(&tag);
        record
    }
}

/// The header of a record with so many bytes behind it; also what is authenticated beside them (RFC 8446 §5.2).
fn header_of(length: usize) -> [u8; RECORD_HEADER] {
    let [.., high, low] = length.to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}
