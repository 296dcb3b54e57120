//! The hash by which the mesh's tables find things: keyed by chance, and a fifth of the work of the standard library's.
//!
//! Keys are names and addresses that whoever may create a pod can choose, so that a table must not be made slow by keys
//! that meet; but nobody who chooses them sees a hash, nor the order of a table. What a key of its own for each table
//! hides from them need not be SipHash.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

/// One key. Copies of it hash alike, and no other does.
#[derive(Clone, Debug)]
pub(crate) struct Keyed(SeedableRandomState);

impl Default for Keyed {
    fn default() -> Self {
        // The library's own seeds come from clock and addresses; the standard library's from the operating system.
        static SHARED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(secret()));
        Self(SeedableRandomState::with_seed(secret(), &SHARED))
    }
}

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

fn secret() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests;
