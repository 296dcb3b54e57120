//! Ends live tunnels whose peer's certificate a new list of revoked certificates names (spec/dataplane.md §9.5).
//!
//! Every tunnel of a worker is held against the list, both directions, in slices between which the worker moves bytes.
//! Who is let in is `tls`'s business; here are those who are in. A tunnel whose handshake is under way is not missed: it
//! looks at the list once more when it ends.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::task::yield_now;

use super::set::TunnelSet;
use super::state::{Tunnel, TunnelEnd};
use crate::shared::Shared;
use crate::telemetry::log::Level;
use crate::telemetry::metrics::{Metrics, Side};
use crate::tls::{RevocationList, TlsError, VerifyError};

/// Tunnels looked at in one go: some microseconds each, but for the first of a peer that is listed.
const SLICE: usize = 64;

/// What a list says about a live tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Revoked,
    /// It was made before anybody asked to know such things.
    Untracked,
}

/// Holds all tunnels of a worker, those inside others too, against each new list.
pub(crate) async fn watch(shared: Arc<Shared>, tunnels: Rc<TunnelSet>) {
    let mut version = shared.revocation_version.subscribe();
    // This begins again if it panics: what it had not come to by then is still to be asked about.
    version.mark_changed();
    while version.changed().await.is_ok() {
        for slice in tunnels.members().chunks(SLICE) {
            // The newest each time: what came meanwhile is heard of at once where it can be.
            let list = shared.credentials.revocations().current();
            for tunnel in slice.iter().filter_map(Weak::upgrade) {
                judge(&shared, &tunnel, &list);
            }
            yield_now().await;
        }
    }
}

fn judge(shared: &Shared, tunnel: &Tunnel, list: &RevocationList) {
    match tunnel.verdict(list) {
        Verdict::Good => {}
        Verdict::Untracked => shared.metrics.crl_untracked(tunnel.side()),
        Verdict::Revoked => {
            shared.metrics.crl_rejection(tunnel.side());
            let peer = tunnel.peer().map(|peer| peer.to_string());
            let peer = peer.unwrap_or_default();
            let text = format!("tunnel closed because its peer's certificate is revoked: {peer}");
            shared
                .log
                .repeating(Level::Warn, "revoked", "proxy::crl", &text, &[]);
            tunnel.revoke();
        }
    }
}

/// Counts a handshake that failed for this.
pub(super) fn count(metrics: &Metrics, side: Side, outcome: &Result<(), Rc<TunnelEnd>>) {
    if let Err(end) = outcome
        && let TunnelEnd::Tls(TlsError::Verify(VerifyError::Revoked)) = **end
    {
        metrics.crl_rejection(side);
    }
}

#[cfg(test)]
mod tests;
