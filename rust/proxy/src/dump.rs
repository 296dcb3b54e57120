//! `/config_dump` while it is written: all sections of one snapshot as pretty JSON, handed out piece by piece.
//!
//! A dump of 100,000 workloads is some 70 MB of text. A thread of its own makes it, a few pieces ahead of its reader, so
//! that neither the text nor the time that it takes is anybody else's. What stands in a section is known to
//! `mesh::snapshot` and, for what is given, to the control side; this is only the way out.

mod live;
mod pretty;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh::snapshot::{MeshSnapshot, Show};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::connections::Census;

/// A dump that is being read. Dropping it ends its thread.
#[derive(Debug)]
pub struct Dump {
    pieces: Mutex<Receiver<Piece>>,
}

/// Why there is no dump, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The control side gave a section that is none.
    #[error("section {0} is not JSON: {1}")]
    NotJson(String, serde_json::Error),
    /// The thread that writes could not be had.
    #[error("no thread for the dump: {0}")]
    Thread(#[from] std::io::Error),
    /// Nothing came in time, or the writer failed.
    #[error("the dump stopped before its end")]
    Stopped,
}

enum Piece {
    Text(Vec<u8>),
    End,
}

impl Dump {
    /// Begins to write. `live` becomes `workloadState`; `given` are sections beside these and the mesh's, as JSON; one
    /// of the same name takes the place of the other.
    ///
    /// # Errors
    /// A given section that is not JSON; no thread.
    pub(crate) fn start(
        mesh: Arc<MeshSnapshot>,
        live: Census,
        given: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, DumpError> {
        let mut sections: BTreeMap<String, Section> = MeshSnapshot::LISTS
            .map(|name| (name.to_owned(), Section::List(name)))
            .into();
        for name in MeshSnapshot::TABLES {
            sections.insert(name.to_owned(), Section::Table(name));
        }
        sections.insert(live::SECTION.to_owned(), Section::Live(live));
        for (name, text) in given {
            let json = serde_json::from_slice::<Box<RawValue>>(&text)
                .map_err(|error| DumpError::NotJson(name.clone(), error))?;
            sections.insert(name, Section::Given(json));
        }
        let (sender, pieces) = mpsc::sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("dump".into())
            .spawn(move || {
                let mut out = Writer::new(sender);
                if out.document(&mesh, &sections).is_continue() {
                    out.finish();
                }
            })?;
        Ok(Self {
            pieces: Mutex::new(pieces),
        })
    }

    /// The next piece, waiting `within` for it; `None` at the end.
    ///
    /// # Errors
    /// [`DumpError::Stopped`]: what was read so far is not a whole dump.
    pub fn next_piece(&self, within: Duration) -> Result<Option<Vec<u8>>, DumpError> {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        match pieces.recv_timeout(within) {
            Ok(Piece::Text(text)) => Ok(Some(text)),
            Ok(Piece::End) => Ok(None),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(DumpError::Stopped)
            }
        }
    }
}

enum Section {
    Given(Box<RawValue>),
    List(&'static str),
    Live(Census),
    Table(&'static str),
}

/// Text, cut into pieces for the reader. Everything stops with `Break` once nobody reads.
struct Writer {
    text: Vec<u8>,
    reader: SyncSender<Piece>,
}

impl Writer {
    fn new(reader: SyncSender<Piece>) -> Self {
        Self {
            text: Vec::with_capacity(PIECE),
            reader,
        }
    }

    fn document(
        &mut self,
        mesh: &MeshSnapshot,
        sections: &BTreeMap<String, Section>,
    ) -> ControlFlow<()> {
        self.text.push(b'{');
        for (index, (name, section)) in sections.iter().enumerate() {
            pretty::member(&mut self.text, index, name, 1);
            match section {
                Section::List(name) => self.list(mesh, name)?,
                Section::Live(census) => self.live(mesh, census)?,
                Section::Table(name) => {
                    let table = mesh.dump(name).unwrap_or_else(|| b"{}".to_vec());
                    pretty::value(&table, 1, self)?;
                }
                Section::Given(json) => pretty::value(json.get().as_bytes(), 1, self)?,
            }
        }
        self.text.extend_from_slice(b"\n}");
        ControlFlow::Continue(())
    }

    fn list(&mut self, mesh: &MeshSnapshot, name: &str) -> ControlFlow<()> {
        let mut list = List {
            out: self,
            items: 0,
        };
        list.out.text.push(b'[');
        mesh.each(name, &mut list)?;
        let items = list.items;
        pretty::close(&mut self.text, items, 1, b']');
        ControlFlow::Continue(())
    }

    fn finish(mut self) {
        let last = std::mem::take(&mut self.text);
        // Either fails only if nobody reads any more.
        let _ = self.reader.send(Piece::Text(last));
        let _ = self.reader.send(Piece::End);
    }
}

/// A list of the mesh's that is being written.
struct List<'w> {
    out: &'w mut Writer,
    items: usize,
}

impl Show for List<'_> {
    fn show(&mut self, item: &impl Serialize) -> ControlFlow<()> {
        pretty::item(&mut self.out.text, self.items, 2);
        self.items += 1;
        pretty::thing(item, 2, self.out)
    }
}

impl pretty::Out for Writer {
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn breathe(&mut self) -> ControlFlow<()> {
        if self.text.len() < PIECE {
            return ControlFlow::Continue(());
        }
        let full = std::mem::replace(&mut self.text, Vec::with_capacity(PIECE + PIECE / 8));
        match self.reader.send(Piece::Text(full)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Large enough that handing over costs nothing beside writing, small enough that a slow reader's are no burden.
const PIECE: usize = 128 * 1024;

/// Pieces that wait for the reader.
const AHEAD: usize = 2;

#[cfg(test)]
mod tests;
