//! What the control side teaches a data plane: batches of the mesh, what is on demand, and what follows from a change.
//!
//! One writer at a time; workers see whole snapshots only. Certificates come another way (`data_plane.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh::decode::{Rejection, Resource, TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};
use mesh::delta::Response;
use mesh::identity::Identity;
use mesh::store::{Applied, MeshStore};
use mesh::workload::Workload;

use super::{DataPlane, lock};
use crate::control::Event;
use crate::telemetry::log::Level;
use crate::telemetry::{StreamEnd, Value};

const XDS: &str = "xds::client";

/// What the control side has told.
pub(super) struct Learned {
    pub(super) store: MeshStore,
    /// Uids of workloads that this node stood for at some time: live connections are guarded by these and no others. A
    /// node stands for a handful in its life.
    pub(super) ours: BTreeSet<Arc<str>>,
}

impl DataPlane {
    /// Applies configuration: what is new or changed, then removals. What cannot be used comes back with the reason and
    /// changes nothing.
    pub fn apply(&self, resources: &[Resource<'_>], removed: &[(&str, &str)]) -> Vec<Rejection> {
        let rejections = self.learn(|store| store.apply(resources, removed));
        self.settle(|_| Vec::new());
        rejections
    }

    /// Applies an answer of delta ADS in one step: its resources, then what it says is gone, then `also_removed`. An answer
    /// of a type that we never ask for is counted, told of and otherwise taken as it is (spec/control.md §4.5).
    pub fn apply_delta<B: AsRef<[u8]>>(
        &self,
        response: &Response<B>,
        also_removed: &[&str],
    ) -> Vec<Rejection> {
        let type_url = response.type_url();
        let metrics = &self.shared.metrics;
        metrics.xds_answered(type_url, response.payload());
        if ![TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION].contains(&type_url) {
            let url = [("type_url", Value::Text(type_url))];
            let text = "an answer of an unknown type changes nothing";
            self.shared.log.error(XDS, text, &url);
            return Vec::new();
        }
        let (resources, mut rejections) = response.batch();
        let gone = response.removed().chain(also_removed.iter().copied());
        let gone: Vec<_> = gone.map(|name| (type_url, name)).collect();
        rejections.extend(self.learn(|store| store.apply(&resources, &gone)));
        if type_url == TYPE_ISTIO_AUTHORIZATION {
            self.tell_policies(response, &rejections);
        }
        // Rejected ones too have been answered: there is nothing more to come.
        self.settle(|asked| response.answers(asked));
        rejections
    }

    /// Upstream's line for each policy that it takes. Ten a second, then their number: a mesh may have thousands.
    fn tell_policies<B: AsRef<[u8]>>(&self, response: &Response<B>, rejections: &[Rejection]) {
        let log = &self.shared.log;
        let stream = [("xds", Value::Span(self.shared.metrics.xds_stream()))];
        let rejected: BTreeSet<_> = rejections.iter().map(|each| &*each.name).collect();
        for policy in response.resources() {
            if rejected.contains(policy.name) {
                continue;
            }
            // `namespace/name`, of which upstream says the name.
            let name = policy.name.rsplit('/').next().unwrap_or_default();
            let text = format!("handling RBAC update {name}");
            log.repeating(Level::Info, "rbac_update", "xds", &text, &stream);
        }
    }

    /// Nobody has what [`Event::ResourceWanted`] asked for: connections that wait for it go on without it.
    pub fn not_there(&self, name: &str) {
        self.settle(|asked| asked.iter().copied().filter(|key| *key == name).collect());
    }

    /// Lets go whoever waits for what is known now, and for what `answers` picks out of the keys that are not.
    fn settle(&self, answers: impl for<'k> FnOnce(&[&'k str]) -> Vec<&'k str>) {
        if let Some(demand) = &self.shared.demand {
            demand.settle(&self.shared.mesh.load(), answers);
        }
    }

    /// A stream to the control plane ended.
    pub fn count_xds_end(&self, end: StreamEnd) {
        self.shared.metrics.xds_ended(end);
    }

    /// Takes a batch, shows it to the workers, and follows up what is different.
    fn learn(&self, batch: impl FnOnce(&mut MeshStore) -> Applied) -> Vec<Rejection> {
        let mut learned = lock(&self.mesh);
        let before = self.shared.local_workload();
        let applied = batch(&mut learned.store);
        if applied.changes.is_empty() {
            return applied.rejections;
        }
        self.shared.mesh.store(learned.store.snapshot());
        let after = self.shared.local_workload();
        learned
            .ours
            .extend(after.iter().map(|w| Arc::clone(&w.uid)));
        // A pod that comes or goes elsewhere changes no permission here: it must not have every connection asked about.
        let mesh = self.shared.snapshot();
        let concerned = applied.changes.concern_policy_of(&mesh, &learned.ours);
        drop(learned);
        self.shared
            .mesh_version
            .send_modify(|version| *version += 1);
        if concerned {
            self.shared
                .policy_version
                .send_modify(|version| *version += 1);
        }
        let identity = |workload: Option<Arc<Workload>>| workload.map(|w| w.identity());
        let (before, after) = (identity(before), identity(after));
        if before != after {
            self.report_identities(before, after);
        }
        applied.rejections
    }

    fn report_identities(&self, before: Option<Identity>, after: Option<Identity>) {
        if let Some(identity) = before {
            self.shared.events.report(Event::CredentialIdle(identity));
        }
        if let Some(identity) = after {
            let now = false;
            self.shared
                .events
                .report(Event::CredentialWanted { identity, now });
        }
    }
}
