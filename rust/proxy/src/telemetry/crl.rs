//! What revoked certificates have cost: refused handshakes and tunnels, lists that could not be used.
//!
//! Names and labels are upstream's but for the last (spec/control.md §12); who is refused is `tls`'s business.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::exposition::{Exposition, Kind};
use super::labels::Reporter;
use super::metrics::Side;

/// Counters of a data plane.
#[derive(Default)]
pub(super) struct CrlCounts {
    /// By side.
    rejections: [AtomicU64; 2],
    untracked: [AtomicU64; 2],
    unusable: AtomicU64,
}

impl CrlCounts {
    pub(super) fn rejection(&self, side: Side) {
        self.rejections[side as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn untracked(&self, side: Side) {
        self.untracked[side as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn unusable(&self) {
        self.unusable.fetch_add(1, Relaxed);
    }

    /// Families without samples are not shown at all, as upstream.
    pub(super) fn show(&self, text: &mut Exposition) {
        by_reporter(
            text,
            "istio_crl_policy_rejections",
            "The total number of connections rejected because a certificate is revoked (unstable).",
            &self.rejections,
        );
        by_reporter(
            text,
            "istio_crl_untracked_connections",
            "The total number of connections that a CRL cannot end, as they are older than it (unstable).",
            &self.untracked,
        );
        let unusable = self.unusable.load(Relaxed);
        if unusable > 0 {
            let help = "Lists of revoked certificates that could not be used (unstable).";
            text.family("ztunnel_crl_unusable", help, Kind::Counter);
            text.sample("ztunnel_crl_unusable_total", &[], signed(unusable));
        }
    }
}

fn by_reporter(text: &mut Exposition, name: &str, help: &str, counts: &[AtomicU64; 2]) {
    let counts = [
        (
            Reporter::Destination,
            counts[Side::Inbound as usize].load(Relaxed),
        ),
        (
            Reporter::Source,
            counts[Side::Outbound as usize].load(Relaxed),
        ),
    ];
    if counts.iter().all(|(_, count)| *count == 0) {
        return;
    }
    text.family(name, help, Kind::Counter);
    for (reporter, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let labels = [("reporter", reporter.as_str())];
        text.sample(&format!("{name}_total"), &labels, signed(count));
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
