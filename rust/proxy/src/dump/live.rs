//! `workloadState`: this node's workloads and their live connections (spec/control.md §11), for
//! `istioctl ztunnel-config connections`.
//!
//! Upstream has it of nodes with many pods only. Who is connected is known to `connections`, who they are to the mesh.

use std::ops::ControlFlow;

use mesh::snapshot::MeshSnapshot;
use serde_json::json;

use super::{Writer, pretty};
use crate::connections::{Census, CensusSide};

/// Its name in the document.
pub(super) const SECTION: &str = "workloadState";

impl Writer {
    pub(super) fn live(&mut self, mesh: &MeshSnapshot, census: &Census) -> ControlFlow<()> {
        self.text.push(b'{');
        let mut workloads = 0;
        for uid in census.workloads() {
            pretty::member(&mut self.text, workloads, uid, 2);
            workloads += 1;
            self.workload(mesh, census, uid)?;
        }
        pretty::close(&mut self.text, workloads, 1, b'}');
        ControlFlow::Continue(())
    }

    /// One workload: members in the order of their names, as everywhere.
    fn workload(&mut self, mesh: &MeshSnapshot, census: &Census, uid: &str) -> ControlFlow<()> {
        self.text.push(b'{');
        pretty::member(&mut self.text, 0, "connections", 3);
        self.text.push(b'{');
        for (index, (name, side)) in SIDES.into_iter().enumerate() {
            pretty::member(&mut self.text, index, name, 4);
            self.side(census, uid, side)?;
        }
        pretty::close(&mut self.text, SIDES.len(), 3, b'}');
        pretty::member(&mut self.text, 1, "info", 3);
        pretty::value(info(mesh, uid).to_string().as_bytes(), 3, self)?;
        pretty::member(&mut self.text, 2, "state", 3);
        self.text.extend_from_slice(b"\"Up\"");
        pretty::close(&mut self.text, 3, 2, b'}');
        ControlFlow::Continue(())
    }

    fn side(&mut self, census: &Census, uid: &str, side: CensusSide) -> ControlFlow<()> {
        let mut items = 0;
        self.text.push(b'[');
        census.each(uid, side, &mut |connection| {
            pretty::item(&mut self.text, items, 5);
            items += 1;
            pretty::value(connection, 5, self)
        })?;
        pretty::close(&mut self.text, items, 4, b']');
        ControlFlow::Continue(())
    }
}

/// Who it is. One that the mesh has lost since is nobody: its connections are still shown.
fn info(mesh: &MeshSnapshot, uid: &str) -> serde_json::Value {
    let Some(workload) = mesh.workload_by_uid(uid) else {
        return json!({"name": "", "namespace": "", "serviceAccount": ""});
    };
    json!({
        "name": workload.name(),
        "namespace": &*workload.namespace,
        "serviceAccount": &*workload.service_account,
    })
}

const SIDES: [(&str, CensusSide); 2] = [
    ("inbound", CensusSide::Inbound),
    ("outbound", CensusSide::Outbound),
];
