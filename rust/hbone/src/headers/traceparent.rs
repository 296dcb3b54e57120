//! `traceparent`: one number that ties the logs of both ends together (W3C Trace Context, spec/dataplane.md §6.4).

use std::fmt;

/// Bytes of `vv-<32 hex>-<16 hex>-ff`.
const LENGTH: usize = 55;

/// A trace and the span in it that called. The numbers come from whoever has randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace, not zero.
    pub trace: u128,
    /// The caller's span, not zero.
    pub parent: u64,
}

impl TraceParent {
    /// The header's value: version 0, not sampled.
    #[must_use]
    pub fn encode(&self) -> String {
        self.to_string()
    }

    /// Reads the header; `None` means that a new trace begins.
    ///
    /// Strict where upstream is not: it looks at the length only, and 55 zeros panic there, which ends every
    /// stream of the tunnel (spec/reliability.md §2 U6). A version above 0 is read like 0 if it has no more to say.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let header: &[u8; LENGTH] = header.try_into().ok()?;
        let mut fields = header.split(|&b| b == b'-');
        let mut next = |digits| fields.next().and_then(|field| hex(field, digits));
        let (version, trace, parent, _flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let parent = u64::try_from(parent).ok()?;
        // 0xff is no version and zero is no number (W3C Trace Context §3.2.2).
        (version != 0xff && trace != 0 && parent != 0).then_some(Self { trace, parent })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-00", self.trace, self.parent)
    }
}

/// Exactly `digits` lower-case hexadecimal digits; `from_str_radix` would take signs and capitals.
fn hex(field: &[u8], digits: usize) -> Option<u128> {
    if field.len() != digits {
        return None;
    }
    field.iter().try_fold(0, |number, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests;
