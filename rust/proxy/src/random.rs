//! Numbers that need not be secret: which endpoint, which trace id.
//!
//! Secrets (keys, nonces) come from the TLS library, never from here.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// SplitMix64, seeded by the standard library's per-process randomness.
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new() -> Self {
        Self(Cell::new(RandomState::new().build_hasher().finish()))
    }

    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, evenly enough for choosing among endpoints (bias below limit ÷ 2^64).
    pub(crate) fn below(&self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}
