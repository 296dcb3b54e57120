//! A CPU profile: where the process's own threads spend their time, until somebody has seen enough.
//!
//! A thread of its own collects what `sys::sampling` takes and looks for threads that have come since. Who asked, how
//! long, and in which form it is told are the control side's to know (`python/ztunnel/admin/pprof`).

use std::collections::HashMap;
use std::ffi::c_void;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::sys::{self, Sampling};

/// A profile that is being taken. Dropping it ends it.
#[derive(Debug)]
pub struct CpuProfile {
    collector: Option<(SyncSender<()>, JoinHandle<Collected>)>,
}

/// One stack of one thread, innermost frame first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The thread's number, as the kernel has it.
    pub thread: i32,
    pub thread_name: String,
    /// Periods of CPU time.
    pub periods: u64,
    /// Addresses; `Profile::frames` says what they are.
    pub addresses: Vec<usize>,
}

/// What is known of an address: the function, and those that were inlined into it, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub functions: Vec<Function>,
}

/// One function at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Empty without debug information.
    pub file: String,
    /// Zero without debug information.
    pub line: u32,
}

/// A finished profile.
#[derive(Debug, Default)]
pub struct Profile {
    pub stacks: Vec<Stack>,
    pub frames: HashMap<usize, Frame>,
    /// Samples that could not be kept.
    pub lost: u64,
}

/// Stacks by thread, as they come.
#[derive(Default)]
struct Collected {
    stacks: HashMap<(i32, Vec<usize>), u64>,
    names: HashMap<i32, String>,
    lost: u64,
}

impl CpuProfile {
    /// Samples all threads but `skipped` every `period` of their CPU time.
    ///
    /// # Errors
    /// Another profile is being taken; no thread, no timers, somebody else's SIGPROF.
    pub fn start(period: Duration, skipped: Vec<i32>) -> io::Result<Self> {
        let sampling = Sampling::begin(period)?;
        let (end, ended) = sync_channel(1);
        let collector = Builder::new()
            .name("profile".into())
            .spawn(move || collect(sampling, skipped, &ended))?;
        Ok(Self {
            collector: Some((end, collector)),
        })
    }

    /// Ends it and finds out what its addresses mean. Blocks: reading the symbols of a large binary takes a second or
    /// so. A second time it is empty.
    #[must_use]
    pub fn finish(&mut self) -> Profile {
        let Some((end, collector)) = self.collector.take() else {
            return Profile::default();
        };
        drop(end);
        collector.join().map(Collected::resolve).unwrap_or_default()
    }
}

fn collect(mut sampling: Sampling, mut skipped: Vec<i32>, ended: &Receiver<()>) -> Collected {
    skipped.push(sys::this_thread());
    let mut collected = Collected::default();
    loop {
        for thread in sys::threads().unwrap_or_default() {
            // Without a timer for one of them, the others are still worth knowing.
            if !skipped.contains(&thread) && sampling.add(thread).is_ok() {
                collected.name(thread);
            }
        }
        let over = ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
        sampling.take(|sample| collected.add(&sample));
        if over {
            collected.lost += sampling.lost();
            return collected;
        }
    }
}

impl Collected {
    /// Each time anew: a thread has its parent's name at first.
    fn name(&mut self, thread: i32) {
        if let Some(name) = sys::thread_name(thread) {
            self.names.insert(thread, name);
        }
    }

    fn add(&mut self, sample: &sys::Sample<'_>) {
        let key = (sample.thread, sample.stack.to_vec());
        if let Some(periods) = self.stacks.get_mut(&key) {
            *periods += sample.periods;
        } else if self.stacks.len() < MOST_STACKS {
            self.stacks.insert(key, sample.periods);
        } else {
            self.lost += sample.periods;
        }
    }

    fn resolve(self) -> Profile {
        let mut frames = HashMap::new();
        for (_, stack) in self.stacks.keys() {
            for (depth, &address) in stack.iter().enumerate() {
                // `resolve` looks at the instruction before, as most addresses are where a call returns to; the
                // innermost is where the thread was.
                let at = address.saturating_add(usize::from(depth == 0));
                frames.entry(address).or_insert_with(|| Frame::at(at));
            }
        }
        // Some megabytes that nobody needs until the next profile.
        backtrace::clear_symbol_cache();
        let name = |thread| self.names.get(&thread).cloned().unwrap_or_default();
        let stacks = self.stacks.into_iter();
        Profile {
            stacks: stacks
                .map(|((thread, addresses), periods)| Stack {
                    thread,
                    thread_name: name(thread),
                    periods,
                    addresses,
                })
                .collect(),
            frames,
            lost: self.lost,
        }
    }
}

impl Frame {
    fn at(address: usize) -> Self {
        let mut functions = Vec::new();
        backtrace::resolve(address as *mut c_void, |symbol| {
            let Some(name) = symbol.name() else {
                return;
            };
            let file = symbol.filename().map(|file| file.display().to_string());
            functions.push(Function {
                // Without the hash that tells two of one name apart.
                name: format!("{name:#}"),
                file: file.unwrap_or_default(),
                line: symbol.lineno().unwrap_or_default(),
            });
        });
        Self { functions }
    }
}

/// Often enough for the slots that samples wait in, and for a thread that lives shortly to be seen.
const EVERY: Duration = Duration::from_millis(50);
/// Distinct stacks that are kept: some 10 MB. A profile of five minutes has a few thousand.
const MOST_STACKS: usize = 16 * 1024;

#[cfg(test)]
mod tests;
