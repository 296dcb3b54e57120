//! Two ends joined into one flow: bytes both ways, and each end told as what it was.
//!
//! A FIN leaves as a FIN (or END_STREAM), a RST as a RST (or RST_STREAM CANCEL) after the bytes before it, and an
//! abnormal end of the tunnel as a RST, never as a FIN: a truncated answer must not look whole
//! (spec/dataplane.md §20.2 item 20).

pub(crate) mod abort;
pub(crate) mod copy;
pub(crate) mod halves;
pub(crate) mod io;
mod pipes;
pub(crate) mod spent;
mod splice;

use std::time::Duration;

use crate::error::{Error, Side};

/// How long bytes that came before an abnormal end may take to reach an application that reads slowly: once out of our
/// hands, once out of the kernel's.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How long an application that is gone may hold up its own last bytes, where the other side takes none.
pub(crate) const LAST_BYTES: Duration = Duration::from_secs(1);

/// How a plain relay moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// Through memory of ours, always.
    Copy,
    /// Inside the kernel, where that pays.
    Splice,
}

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum RelayEnd {
    /// Both sides said that they were complete.
    Finished,
    /// An application reset its connection, here or behind the tunnel. Normal traffic, not a failure of ours.
    Reset(Side),
    /// The tunnel or a socket failed.
    Failed(Error),
    /// We ended it: policy, drain.
    Cut(Error),
}

#[cfg(test)]
pub(crate) mod tests;
