//! Workloads by uid, by address and by name.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Slot, Table, put_last, take};
use crate::workload::{NetworkMode, TunnelProtocol, Workload};

#[derive(Clone, Debug, Default)]
pub(crate) struct WorkloadIndex {
    pub(super) by_uid: Table<Arc<str>, Arc<Workload>>,
    /// Keyed by the address alone, so that a look-up needs no owned network name; few addresses repeat over networks.
    by_address: Table<IpAddr, Slot<Workload>>,
    pub(super) by_name: Table<Arc<str>, Slot<Workload>>,
}

impl WorkloadIndex {
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    pub(super) fn by_address(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        // max_by_key gives the last of equals: an address that was given to a new pod means the new one.
        self.by_address
            .get(&address)?
            .iter()
            .filter(|workload| *workload.network == *network)
            .max_by_key(|workload| rank(workload))
    }

    /// Puts a workload in the place of `old`, the one of the same uid. As if that had been removed first: it is the
    /// last one learned under its addresses and its name.
    pub(crate) fn insert(&mut self, workload: &Arc<Workload>, old: Option<&Workload>) {
        let same = |held: &Workload| held.uid == workload.uid;
        let kept = |address: &IpAddr| addresses(workload).contains(address);
        for address in old.map_or(&[][..], addresses).iter().filter(|a| !kept(a)) {
            take(&mut self.by_address, address, same);
        }
        for address in addresses(workload) {
            put_last(&mut self.by_address, address, workload, same);
        }
        if let Some(old) = old.filter(|old| old.name != workload.name) {
            take(&mut self.by_name, &*old.name, same);
        }
        // Any number may have no name, and none of them is asked for by it.
        if !workload.name.is_empty() {
            put_last(&mut self.by_name, &workload.name, workload, same);
        }
        self.by_uid
            .insert(Arc::clone(&workload.uid), Arc::clone(workload));
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Arc<Workload>> {
        let workload = self.by_uid.remove(uid)?;
        let same = |held: &Workload| *held.uid == *uid;
        for address in addresses(&workload) {
            take(&mut self.by_address, address, same);
        }
        take(&mut self.by_name, &*workload.name, same);
        Some(workload)
    }
}

/// Those by which it is found.
fn addresses(workload: &Workload) -> &[IpAddr] {
    match workload.network_mode {
        NetworkMode::HostNetwork => &[],
        NetworkMode::Standard => &workload.addresses,
    }
}

fn rank(workload: &Workload) -> u8 {
    let pod = if workload.uid.contains("//Pod/") {
        2
    } else {
        0
    };
    pod + u8::from(workload.protocol == TunnelProtocol::Hbone)
}
