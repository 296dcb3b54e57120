//! `x-forwarded-network`: the network on whose behalf a gateway speaks (spec/dataplane.md §3.6, §6.5).

/// Reads the little there is to read.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedNetwork;

impl ForwardedNetwork {
    /// Whether a request was sent on from another network than `ours`, where its client's address has another meaning.
    ///
    /// A header that is no text says nothing; an empty one is the name of a network without one.
    #[must_use]
    pub fn is_another(header: Option<&[u8]>, ours: &str) -> bool {
        let is_text = |header: &&[u8]| header.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'));
        header
            .filter(is_text)
            .is_some_and(|header| !header.eq_ignore_ascii_case(ours.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
