//! Workloads by uid, by address and by name.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Slot, Table, put, take};
use crate::workload::{NetworkMode, TunnelProtocol, Workload};

#[derive(Clone, Debug, Default)]
pub(crate) struct WorkloadIndex {
    pub(super) by_uid: Table<Arc<str>, Arc<Workload>>,
    /// Keyed by the address alone, so that a look-up needs no owned network name; few addresses repeat over networks.
    by_address: Table<IpAddr, Slot<Workload>>,
    pub(super) by_name: Table<Arc<str>, Slot<Workload>>,
}

impl WorkloadIndex {
    pub(super) fn by_address(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        // max_by_key gives the last of equals: an address that was given to a new pod means the new one.
        self.by_address
            .get(&address)?
            .iter()
            .filter(|workload| *workload.network == *network)
            .max_by_key(|workload| rank(workload))
    }

    /// The caller has removed an older workload of this uid.
    pub(crate) fn insert(&mut self, workload: &Arc<Workload>) {
        let same = |held: &Workload| held.uid == workload.uid;
        if workload.network_mode == NetworkMode::Standard {
            for address in &workload.addresses {
                put(&mut self.by_address, *address, workload, same);
            }
        }
        // Any number may have no name, and none of them is asked for by it.
        if !workload.name.is_empty() {
            put(
                &mut self.by_name,
                Arc::clone(&workload.name),
                workload,
                same,
            );
        }
        self.by_uid
            .insert(Arc::clone(&workload.uid), Arc::clone(workload));
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Arc<Workload>> {
        let workload = self.by_uid.remove(uid)?;
        let same = |held: &Workload| *held.uid == *uid;
        for address in &workload.addresses {
            take(&mut self.by_address, address, same);
        }
        take(&mut self.by_name, &*workload.name, same);
        Some(workload)
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
