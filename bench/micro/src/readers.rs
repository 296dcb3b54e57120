//! Readers that look whether what they are shown hangs together, while a writer changes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mesh::route::{Route, RouteFacts, Target, route};
use mesh::snapshot::MeshSnapshot;
use mesh::store::MeshStore;

use crate::istio;
use crate::meshes::{Owned, apply_all, chance};

/// What a run showed.
#[derive(Debug)]
pub struct Findings {
    /// Changes that the writer applied.
    pub changes: u32,
    /// What it took the writer to apply and publish one, on average.
    pub change: Duration,
    /// Looks that the readers took at the mesh.
    pub looks: u64,
    /// How long a look took that was longer than half of them, and than 99 of 100.
    pub median: Duration,
    /// See `median`.
    pub p99: Duration,
}

/// `readers` threads look at a mesh of `workloads` for as long as `time`, while `changes` a second are applied to it.
///
/// A look takes the newest view and checks in it: a workload drawn at random is found under its uid and under its
/// address, and is the same one; a route to its service leads to an endpoint that this very view has under its uid and
/// its address, with the port that it names. The writer gives workloads other addresses and ports, takes them away and
/// brings them back.
///
/// # Panics
/// A reader found a view that does not hang together.
pub fn run(readers: u32, workloads: u32, time: Duration, changes: u32) -> Findings {
    let mut store = MeshStore::new();
    let services = workloads.div_ceil(1_000);
    let first: Vec<Owned> = (0..services).map(|n| istio::service(n, true)).collect();
    apply_all(&mut store, &first);
    let pods: Vec<Owned> = (0..workloads)
        .map(|n| istio::workload(n, services))
        .collect();
    apply_all(&mut store, &pods);
    let world = World {
        current: ArcSwap::new(store.snapshot()),
        uids: pods.iter().map(|pod| pod.name.clone()).collect(),
        services,
        over: AtomicBool::new(false),
    };
    drop(pods);
    thread::scope(|scope| {
        let world = &world;
        let readers: Vec<_> = (0..readers)
            .map(|seed| scope.spawn(move || world.read(u64::from(seed) + 1)))
            .collect();
        let (applied, spent) = world.write(&mut store, time, changes);
        world.over.store(true, Ordering::Relaxed);
        let times = readers.into_iter().fold(Times::default(), |times, reader| {
            times.and(&reader.join().expect("what it was shown hangs together"))
        });
        Findings {
            changes: applied,
            change: spent / applied.max(1),
            looks: times.count,
            median: times.quantile(0.5),
            p99: times.quantile(0.99),
        }
    })
}

struct World {
    current: ArcSwap<MeshSnapshot>,
    uids: Vec<String>,
    services: u32,
    over: AtomicBool,
}

impl World {
    fn read(&self, seed: u64) -> Times {
        let (mut chance, mut times) = (chance(seed), Times::default());
        while !self.over.load(Ordering::Relaxed) {
            let n = chance(self.uids.len() as u64) as usize;
            let start = Instant::now();
            let mesh = self.current.load_full();
            self.look(&mesh, n, &mut chance);
            times.add(start.elapsed());
        }
        times
    }

    fn look(&self, mesh: &MeshSnapshot, n: usize, chance: &mut impl FnMut(u64) -> u64) {
        let uid = &self.uids[n];
        let Some(workload) = mesh.workload_by_uid(uid) else {
            return;
        };
        assert_eq!(*workload.uid, **uid);
        let address = workload.addresses[0];
        let found = mesh.workload_by_address("", address);
        assert!(
            found.is_some_and(|found| Arc::ptr_eq(found, workload)),
            "{uid} at {address}"
        );
        let (name, _) = workload.services.iter().next().expect("each is in one");
        let target = Target::Host {
            hostname: name.hostname.to_string(),
            port: 80,
        };
        let facts = RouteFacts {
            source: workload,
            client: address,
            target: &target,
            network: "",
            hbone_port: 15008,
        };
        match route(mesh, &facts, chance) {
            Ok(Route::Hbone {
                workload: chosen,
                peer,
                service,
                ..
            }) => {
                let held = mesh.workload_by_uid(&chosen.uid);
                assert!(
                    held.is_some_and(|held| Arc::ptr_eq(held, &chosen)),
                    "{}",
                    chosen.uid
                );
                assert_eq!(peer.ip(), chosen.addresses[0]);
                let service = service.expect("it was asked for by name");
                let endpoint = mesh.endpoint(&service, &chosen.uid);
                let ports = endpoint.expect("it was chosen").port;
                assert_eq!(Some(&ports), chosen.services.get(&service.key()));
            }
            other => panic!("{uid} to {target}: {other:?}"),
        }
    }

    /// Applies `rate` changes a second, as evenly as the machine lets it.
    #[expect(
        clippy::disallowed_methods,
        reason = "what it waits for is a point of time, not an event"
    )]
    fn write(&self, store: &mut MeshStore, time: Duration, rate: u32) -> (u32, Duration) {
        let (start, mut chance) = (Instant::now(), chance(99));
        let (mut applied, mut spent) = (0, Duration::ZERO);
        while start.elapsed() < time {
            let due = start.elapsed().as_secs_f64() * f64::from(rate);
            if f64::from(applied) >= due {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
            let count = self.uids.len() as u64;
            let n = chance(count) as u32;
            let uid = &self.uids[n as usize];
            let change = istio::changed_workload(n, self.services, chance(3) as u8);
            let gone = [(mesh::decode::TYPE_ISTIO_ADDRESS, uid.as_str())];
            let before = Instant::now();
            if chance(10) == 0 {
                store.apply(&[], &gone);
            } else {
                let taken = store.apply(&[change.borrow()], &[]);
                assert!(taken.rejections.is_empty(), "{:?}", taken.rejections);
            }
            self.current.store(store.snapshot());
            spent += before.elapsed();
            applied += 1;
        }
        (applied, spent)
    }
}

/// How often each time was measured, in steps of 1/16 of it.
#[derive(Default)]
struct Times {
    count: u64,
    steps: BTreeMap<u32, u64>,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let step = (time.as_nanos().max(1) as f64).log2() * 16.0;
        *self.steps.entry(step as u32).or_default() += 1;
        self.count += 1;
    }

    fn and(mut self, other: &Self) -> Self {
        for (step, count) in &other.steps {
            *self.steps.entry(*step).or_default() += count;
        }
        self.count += other.count;
        self
    }

    fn quantile(&self, part: f64) -> Duration {
        let (wanted, mut seen) = ((self.count as f64 * part) as u64, 0);
        let step = self.steps.iter().find(|(_, count)| {
            seen += **count;
            seen > wanted
        });
        let step = step.map_or(0, |(step, _)| *step);
        Duration::from_nanos((f64::from(step) / 16.0).exp2() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reader_is_ever_shown_a_torn_mesh() {
        let found = run(8, 5_000, Duration::from_secs(2), 1_000);
        assert!(found.looks > 1_000 && found.changes > 100, "{found:?}");
    }
}
