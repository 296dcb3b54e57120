//! Reading records: where one ends, and what is in it once its tag has been checked.
//!
//! Nothing is given away before that. What a payload means is `record`'s.

use rustls::{AlertDescription, ContentType, Error, PeerMisbehaved};

use super::keys::TrafficKey;
use super::{APPLICATION_DATA, CHANGE_CIPHER_SPEC, Fault, RECORD_HEADER, RECORD_PAYLOAD, TAG};

/// Largest length that a header may state (RFC 8446 §5.2).
const MAX_SEALED: usize = RECORD_PAYLOAD + 256;

pub(super) struct Opener {
    key: TrafficKey,
}

/// How long the record is that `bytes` begin with; none if it has not arrived whole.
pub(super) fn size(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    // After the handshake everything is encrypted, and says so outside (RFC 8446 §5.2).
    if kind != APPLICATION_DATA {
        return Err(out_of_place(kind));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_SEALED {
        return Err(oversized());
    }
    let size = RECORD_HEADER + length;
    Ok((bytes.len() >= size).then_some(size))
}

impl Opener {
    pub(super) fn new(key: TrafficKey) -> Self {
        Self { key }
    }

    pub(super) fn renew(&mut self, key: TrafficKey) {
        self.key = key;
    }

    /// Decrypts a whole record where it lies. Gives its real content type and its payload.
    #[inline]
    pub(super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<(u8, &'a [u8]), Fault> {
        let (header, sealed) = record.split_at_mut(RECORD_HEADER);
        if sealed.len() < TAG {
            return Err(forged());
        }
        let (aead, nonce) = self.key.once()?;
        let inner = aead.open(nonce, header, sealed).map_err(|_| forged())?;
        if inner.len() > RECORD_PAYLOAD + 1 {
            return Err(oversized());
        }
        // The type is the last byte that is not padding.
        let Some(last) = inner.iter().rposition(|&byte| byte != 0) else {
            return Err(Fault::unexpected(PeerMisbehaved::IllegalTlsInnerPlaintext));
        };
        let kind = inner[last];
        let payload = &inner[..last];
        if kind == CHANGE_CIPHER_SPEC {
            return Err(out_of_place(kind));
        }
        Ok((kind, payload))
    }
}

/// Content of this type has no business here.
pub(super) fn out_of_place(kind: u8) -> Fault {
    match kind {
        CHANGE_CIPHER_SPEC => Fault::unexpected(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec),
        kind => Fault::unexpected(Error::InappropriateMessage {
            expect_types: vec![
                ContentType::ApplicationData,
                ContentType::Handshake,
                ContentType::Alert,
            ],
            got_type: ContentType::from(kind),
        }),
    }
}

fn forged() -> Fault {
    Fault::new(AlertDescription::BadRecordMac, Error::DecryptError)
}

fn oversized() -> Fault {
    Fault::new(
        AlertDescription::RecordOverflow,
        Error::PeerSentOversizedRecord,
    )
}
