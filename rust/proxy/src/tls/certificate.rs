//! What a certificate says about itself: names, validity, serial; and PEM in and out.
//!
//! Reading only. Whether to believe it is `verify`'s business.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Serialize, Serializer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// One certificate as a person reads it; serialises as `/config_dump` spells it (spec/control.md §11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    /// The certificate's PEM text; in JSON the base64 of that text.
    #[serde(serialize_with = "as_base64")]
    pub pem: String,
    /// Decimal.
    pub serial_number: String,
    /// `notBefore`, RFC 3339 in seconds.
    pub valid_from: String,
    /// `notAfter`, RFC 3339 in seconds.
    pub expiration_time: String,
}

/// What this folder needs of a certificate.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) info: CertificateInfo,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

impl Reading {
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(Self {
            info: CertificateInfo {
                pem: to_pem(der),
                serial_number: certificate.tbs_certificate.serial.to_string(),
                valid_from: rfc3339(&validity.not_before),
                expiration_time: rfc3339(&validity.not_after),
            },
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

/// The URI names of a certificate, in order, readable or not: a name that is not ASCII still counts as one.
pub(super) fn uri_names(der: &CertificateDer<'_>) -> Result<Vec<String>, Unreadable> {
    uris(&parse(der)?)
}

/// From when to when, both included; in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// When both hold.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    pub(super) fn includes(self, now: UnixTime) -> bool {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        (self.not_before..=self.not_after).contains(&now)
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unreadable> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Unreadable),
    }
}

fn uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>, Unreadable> {
    /// Context tag of `uniformResourceIdentifier` (RFC 5280 §4.2.1.6).
    const URI_TAG: u32 = 6;
    let Some(names) = certificate
        .subject_alternative_name()
        .map_err(|_| Unreadable)?
    else {
        return Ok(Vec::new());
    };
    Ok(names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            GeneralName::Invalid(tag, bytes) if tag.0 == URI_TAG => {
                Some(bytes.escape_ascii().to_string())
            }
            _ => None,
        })
        .collect())
}

/// The certificates of a PEM text, in order; other blocks and text between them are skipped.
///
/// Each block that is not base64 of something is an `Err` at its place.
pub(super) fn from_pem(
    pem: &[u8],
) -> impl Iterator<Item = Result<CertificateDer<'static>, rustls_pki_types::pem::Error>> {
    CertificateDer::pem_slice_iter(pem)
}

fn to_pem(der: &[u8]) -> String {
    let body = base64(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64)); // RFC 7468 §2
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn as_base64<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64(text.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            // One byte fills two characters, two fill three: the rest is padding.
            let filled = i <= group.len();
            let index = (bits >> (18 - 6 * i)) & 63;
            text.push(if filled {
                char::from(ALPHABET[index as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn rfc3339(time: &ASN1Time) -> String {
    let t = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// Seconds since 1970 as RFC 3339; a time that no calendar holds is given as the number.
pub(super) fn rfc3339_of(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |time| rfc3339(&time))
}

/// The bytes are not an X.509 certificate, or its names cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

#[cfg(test)]
mod tests;
