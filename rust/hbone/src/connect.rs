//! Heads of requests and responses: fields to `RequestHead`/`ResponseHead` and back (RFC 9113 §8.2, §8.3, §8.5).
//!
//! Says whether a head is well-formed HTTP/2, never whether we like it: a GET is well-formed, and the proxy answers
//! 400. What our own headers mean is `headers.rs`' business; bytes become fields in `hpack`.

use crate::hpack::{Encoder, Index};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// `:method`; CONNECT in a tunnel.
    pub method: String,
    /// `:authority`, as it came.
    pub authority: Option<String>,
    /// Regular fields in order; pseudo headers are not among them.
    pub fields: Fields,
}

impl RequestHead {
    /// A CONNECT to `authority`.
    pub fn connect(authority: impl Into<String>, fields: Fields) -> Self {
        Self {
            method: "CONNECT".to_owned(),
            authority: Some(authority.into()),
            fields,
        }
    }

    /// Whether this asks for a tunnel.
    pub fn is_connect(&self) -> bool {
        self.method == "CONNECT"
    }

    pub(crate) fn encode(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.begin(out);
        encoder.field(b":method", self.method.as_bytes(), Index::Index, out);
        if let Some(authority) = &self.authority {
            encoder.field(b":authority", authority.as_bytes(), Index::Index, out);
        }
        self.fields.encode(encoder, out);
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// `:status`, 100 to 999.
    pub status: u16,
    /// Regular fields in order.
    pub fields: Fields,
}

impl ResponseHead {
    /// An answer without fields.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            fields: Fields::new(),
        }
    }

    pub(crate) fn encode(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.begin(out);
        encoder.field(
            b":status",
            self.status.to_string().as_bytes(),
            Index::Index,
            out,
        );
        self.fields.encode(encoder, out);
    }
}

/// Regular header fields in their order. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a field. Ours to get right: the name in lower case, no control characters in the value.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// The same, for building in one expression.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.push(name, value);
        self
    }

    /// The first value under `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Every value under `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn encode(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            encoder.field(name.as_bytes(), value, indexing(name), out);
        }
    }
}

impl<N: Into<String>, V: Into<Vec<u8>>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        Self(
            fields
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// New with every connection: in the table they would push out `baggage`, which repeats.
fn indexing(name: &str) -> Index {
    match name {
        "forwarded" | "traceparent" | "content-length" | "date" => Index::Plain,
        "authorization" | "cookie" | "proxy-authorization" => Index::Never,
        _ => Index::Index,
    }
}

/// Why a head is malformed: a stream error of type PROTOCOL_ERROR (RFC 9113 §8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Collects the fields of one head as `hpack` decodes them, and judges them.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    method: Option<String>,
    scheme: Option<()>,
    path: Option<()>,
    authority: Option<String>,
    status: Option<u16>,
    content_length: Option<u64>,
    fields: Fields,
    max_fields: usize,
    seen: usize,
    malformed: Option<Malformed>,
}

impl HeadReader {
    pub(crate) fn new(max_fields: u32) -> Self {
        Self {
            max_fields: max_fields as usize,
            ..Self::default()
        }
    }

    /// One field, as decoded. What comes after a mistake or past the limit is not kept.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.seen += 1;
        if self.malformed.is_some() || self.seen > self.max_fields {
            return;
        }
        if let Err(mistake) = self.take(name, value) {
            self.malformed = Some(mistake);
        }
    }

    /// More fields than the limit; the head is incomplete.
    pub(crate) fn is_too_large(&self) -> bool {
        self.seen > self.max_fields
    }

    /// The promise of `content-length`, if it made one.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    pub(crate) fn request(self) -> Result<RequestHead, Malformed> {
        self.judge()?;
        if self.status.is_some() {
            return Err(Malformed(":status in a request"));
        }
        let method = self.method.ok_or(Malformed("no :method"))?;
        if method == "CONNECT" {
            // RFC 9113 §8.5. A missing :authority is let through: the proxy answers 400 (dataplane.md §3.2).
            if self.scheme.is_some() || self.path.is_some() {
                return Err(Malformed("CONNECT with :scheme or :path"));
            }
        } else if self.scheme.is_none() || self.path.is_none() {
            return Err(Malformed("no :scheme or no :path"));
        }
        let host = self.fields.get("host");
        if let (Some(authority), Some(host)) = (&self.authority, host)
            && !authority.as_bytes().eq_ignore_ascii_case(host)
        {
            return Err(Malformed("host differs from :authority"));
        }
        Ok(RequestHead {
            method,
            authority: self.authority,
            fields: self.fields,
        })
    }

    pub(crate) fn response(self) -> Result<ResponseHead, Malformed> {
        self.judge()?;
        if self.has_request_pseudo() {
            return Err(Malformed("request pseudo header in a response"));
        }
        match self.status.ok_or(Malformed("no :status"))? {
            // RFC 9113 §8.6: HTTP/2 has no 101.
            101 => Err(Malformed("status 101")),
            status => Ok(ResponseHead {
                status,
                fields: self.fields,
            }),
        }
    }

    /// Trailers are checked and thrown away: a tunnel has no use for them.
    pub(crate) fn trailers(self) -> Result<(), Malformed> {
        self.judge()?;
        if self.has_request_pseudo() || self.status.is_some() {
            return Err(Malformed("pseudo header in trailers"));
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), Malformed> {
        self.malformed.map_or(Ok(()), Err)
    }

    fn has_request_pseudo(&self) -> bool {
        self.method.is_some()
            || self.scheme.is_some()
            || self.path.is_some()
            || self.authority.is_some()
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if !is_value(value) {
            return Err(Malformed("field value with forbidden characters"));
        }
        if name.first() == Some(&b':') {
            if !self.fields.is_empty() {
                return Err(Malformed("pseudo header behind a regular field"));
            }
            return self.pseudo(name, value);
        }
        let Some(name) = text_of(name).filter(|name| name.bytes().all(is_name_byte)) else {
            return Err(Malformed("field name that is not a lower-case token"));
        };
        match name {
            // RFC 9113 §8.2.2
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {
                return Err(Malformed("connection-specific field"));
            }
            "te" if value != b"trailers" => return Err(Malformed("te other than trailers")),
            "content-length" => self.promise(value)?,
            _ => {}
        }
        self.fields.push(name, value);
        Ok(())
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let fresh = match name {
            b":method" => {
                let method = text_of(value).filter(|text| text.bytes().all(is_token_byte));
                let method = method.ok_or(Malformed(":method that is not a token"))?;
                self.method.replace(method.to_owned()).is_none()
            }
            b":scheme" => self.scheme.replace(()).is_none(),
            b":path" if value.is_empty() => return Err(Malformed("empty :path")),
            b":path" => self.path.replace(()).is_none(),
            b":authority" => {
                let authority = std::str::from_utf8(value).ok();
                let authority = authority.filter(|text| text.bytes().all(|b| b.is_ascii_graphic()));
                let authority =
                    authority.ok_or(Malformed(":authority with forbidden characters"))?;
                self.authority.replace(authority.to_owned()).is_none()
            }
            b":status" => {
                let status =
                    status_of(value).ok_or(Malformed(":status that is not three digits"))?;
                self.status.replace(status).is_none()
            }
            // `:protocol` too: we never send SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3).
            _ => return Err(Malformed("unknown pseudo header")),
        };
        if fresh {
            Ok(())
        } else {
            Err(Malformed("pseudo header twice"))
        }
    }

    fn promise(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let digits = text_of(value).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        let length: u64 = length.ok_or(Malformed("content-length that is not a number"))?;
        match self.content_length.replace(length) {
            Some(other) if other != length => Err(Malformed("two values of content-length")),
            _ => Ok(()),
        }
    }
}

/// Text that is there at all.
fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.is_empty())
}

fn status_of(value: &[u8]) -> Option<u16> {
    match value {
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => std::str::from_utf8(value).ok()?.parse().ok(),
        _ => None,
    }
}

/// RFC 9110 §5.6.2 `tchar`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9113 §8.2.1: no upper case, no controls, no colon behind the first byte. We take tokens only.
fn is_name_byte(byte: u8) -> bool {
    is_token_byte(byte) && !byte.is_ascii_uppercase()
}

/// RFC 9113 §8.2.1: no NUL, CR, LF anywhere, no space around.
fn is_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        && !is_blank(value.first())
        && !is_blank(value.last())
}

#[cfg(test)]
mod tests;
