//! Choosing one endpoint of a service: who can take the connection, and whose turn it is.
//!
//! Chance is handed in. Every endpoint of the service is looked at for each choice; locality preferences, and the
//! index that makes the choice cheap for services of thousands, come with the rest of upstream's balancing.

use std::sync::Arc;

use crate::route::{Chance, Listener, Step};
use crate::service::{Endpoint, Service};
use crate::snapshot::MeshSnapshot;
use crate::workload::Workload;

/// An endpoint of `service` for a connection of `source` to its `port`, with the endpoint's own port
/// (spec/dataplane.md §10.4).
pub(crate) fn choose_endpoint<'a>(
    mesh: &'a MeshSnapshot,
    service: &Service,
    source: &Workload,
    port: u16,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Option<(&'a Arc<Workload>, u16)> {
    let Some(target) = service.ports.get(&port).copied() else {
        listener(&Step::NoSuchPort(service, port));
        return None;
    };
    // (the sum of the weights up to and with this one, the endpoint)
    let mut candidates: Vec<(u64, &Arc<Workload>, &Endpoint)> = Vec::new();
    let mut total = 0_u64;
    for endpoint in service.endpoints.values() {
        match usable(mesh, service, source, endpoint, port, target) {
            Ok(workload) => {
                total += u64::from(workload.capacity);
                candidates.push((total, workload, endpoint));
            }
            Err(reason) => listener(&Step::Skipped(&endpoint.workload_uid, reason)),
        }
    }
    if total == 0 {
        return None;
    }
    // A careless source of chance gets the last endpoint, not a panic.
    let drawn = chance(total).min(total - 1);
    let index = candidates.partition_point(|(sum, _, _)| *sum <= drawn);
    let (_, workload, endpoint) = candidates[index];
    listener(&Step::Chosen(workload, candidates.len()));
    endpoint_port(workload, endpoint, port, target).map(|port| (workload, port))
}

fn usable<'a>(
    mesh: &'a MeshSnapshot,
    service: &Service,
    source: &Workload,
    endpoint: &Endpoint,
    port: u16,
    target: u16,
) -> Result<&'a Arc<Workload>, &'static str> {
    if !service.takes(endpoint.status) {
        return Err("it is unhealthy");
    }
    let workload = mesh
        .workload_by_uid(&endpoint.workload_uid)
        .ok_or("no such workload is known")?;
    let behind_gateway = workload.network != source.network && workload.network_gateway.is_some();
    if workload.addresses.is_empty() && workload.hostname.is_empty() && !behind_gateway {
        return Err("it has no address");
    }
    if target == 0 && !endpoint.port.contains_key(&port) {
        return Err("it does not have the named port");
    }
    if workload.capacity == 0 {
        return Err("its capacity is 0");
    }
    Ok(workload)
}

fn endpoint_port(workload: &Workload, endpoint: &Endpoint, port: u16, target: u16) -> Option<u16> {
    // Before the tunnel's port is looked at, a 0 means "not said".
    let said = [endpoint.port.get(&port).copied().unwrap_or(0), target];
    let tunnelled = workload
        .application_tunnel
        .is_some_and(|t| t.port.is_some());
    let said = said.into_iter().find(|port| *port != 0);
    said.or_else(|| tunnelled.then_some(port))
}

#[cfg(test)]
mod tests;
