//! Which compression a reader gets: a decision over its `Accept-Encoding` (RFC 9110 §12.5.3).
//!
//! Nothing is compressed here; `compress.rs` does that.

use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

/// A content coding that we can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    /// With zlib's frame, which is what HTTP means by the word.
    Deflate,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The one that weighs most. `None` is no compression: nothing we know was asked for, or the plain text is
    /// preferred. Unreadable entries are passed over, and `*` is not taken as a wish.
    pub(super) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let mut best = None;
        let mut plain = 0;
        for (name, weight) in entries(headers) {
            if name.eq_ignore_ascii_case("identity") {
                plain = weight;
            }
            let Some(encoding) = Self::of(name) else {
                continue;
            };
            let rank = (weight, encoding.preference());
            if weight > 0 && best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, encoding));
            }
        }
        best.filter(|((weight, _), _)| *weight >= plain)
            .map(|(_, encoding)| encoding)
    }

    fn of(name: &str) -> Option<Self> {
        const NAMES: [(&str, Encoding); 5] = [
            ("br", Encoding::Brotli),
            ("deflate", Encoding::Deflate),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip), // RFC 9110 §8.4.1.3
            ("zstd", Encoding::Zstd),
        ];
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, encoding)| *encoding)
    }

    /// Among equal wishes: what costs least for what it saves.
    fn preference(self) -> u8 {
        match self {
            Self::Deflate => 0,
            Self::Gzip => 1,
            Self::Brotli => 2,
            Self::Zstd => 3,
        }
    }

    /// The value of `Content-Encoding`.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Brotli => "br",
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Codings and their weights in thousandths.
fn entries(headers: &HeaderMap) -> impl Iterator<Item = (&str, u16)> {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|entry| {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = match parameters.trim() {
                "" => Some(1000),
                parameter => weight(parameter),
            };
            Some((name.trim(), weight?))
        })
}

/// `q=0.5` and the like: at most three digits behind the point, at most 1 (RFC 9110 §12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(name, "q" | "Q") || !digits || fraction.len() > 3 {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
