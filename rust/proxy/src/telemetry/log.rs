//! The log: lines from any thread, written by one.
//!
//! Nothing here waits for the disk or the terminal: a line is formatted where it arises and queued; if the
//! queue is full it is dropped and counted, and the loss is told as soon as there is room.
//! `access_log.rs` and `text.rs` know what a line looks like.

mod filter;
mod limit;
mod queue;
mod sink;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::access_log::{self, Denied, End, Line};
use super::text::{Record, Value};
use super::time::Timestamp;

pub use filter::{Filter, FilterError};
use queue::{Kind, Queue};
use sink::Sink;

/// A handle on one output; clones share it. The last one dropped lets the writer finish.
#[derive(Clone)]
pub struct Logger(Arc<Inner>);

/// Where the lines go and what they look like.
#[derive(Clone, Debug)]
pub struct Settings {
    pub format: Format,
    /// Of access lines, if not the same.
    pub access: Option<Format>,
    pub output: Output,
    pub filter: Filter,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Of access lines only.
    Envoy,
    Json,
    #[default]
    Plain,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Appended to, created if missing.
    File(PathBuf),
    #[default]
    Stdout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What was not written. `metrics.rs` shows it.
#[derive(Debug, Default)]
pub struct Losses {
    pub(super) access: AtomicU64,
    pub(super) operational: AtomicU64,
    pub(super) suppressed: AtomicU64,
}

struct Inner {
    format: Format,
    access: Format,
    filter: ArcSwap<Filter>,
    /// What `reset` goes back to.
    startup: Filter,
    /// Held by whoever changes the filter, so that no change is lost; those who log never look at it.
    changing: Mutex<()>,
    queue: Arc<Queue>,
}

/// What a line says besides level, place and message.
pub type Fields<'a> = &'a [(&'a str, Value<'a>)];

impl Logger {
    /// Opens the output and starts its writer thread.
    pub fn start(settings: Settings, losses: Arc<Losses>) -> io::Result<Self> {
        let sink = Sink::open(&settings.output)?;
        let formats = (settings.format, settings.access.unwrap_or(settings.format));
        Self::with_sink(formats, settings.filter, sink, losses)
    }

    fn with_sink(
        (format, access): (Format, Format),
        filter: Filter,
        sink: Sink,
        losses: Arc<Losses>,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(format, losses));
        queue::spawn_writer(Arc::clone(&queue), sink)?;
        Ok(Self(Arc::new(Inner {
            format,
            access,
            startup: filter.clone(),
            filter: ArcSwap::from_pointee(filter),
            changing: Mutex::default(),
            queue,
        })))
    }

    /// Whether such a line would be written; ask before doing work for it.
    #[must_use]
    pub fn enabled(&self, level: Level, target: &str) -> bool {
        self.0.filter.load().allows(level, target)
    }

    /// How access lines are written.
    #[must_use]
    pub fn access_format(&self) -> Format {
        self.0.access
    }

    /// Exchanges the filter of the running log, as a whole.
    pub fn set_filter(&self, filter: Filter) {
        let _changing = self.changing();
        self.0.filter.store(Arc::new(filter));
    }

    /// Lays `directives` over the filter in force, or over the one of the start after a `reset`, in one step
    /// (spec/control.md §10.1). Gives the filter now in force.
    ///
    /// # Errors
    /// The directive that is none; then nothing has changed.
    pub fn change_filter(
        &self,
        reset: bool,
        directives: Option<&str>,
    ) -> Result<Arc<Filter>, FilterError> {
        let _changing = self.changing();
        let current = self.filter();
        let base = if reset { &self.0.startup } else { &*current };
        let filter = Arc::new(match directives {
            Some(directives) => base.with(directives)?,
            None => base.clone(),
        });
        self.0.filter.store(Arc::clone(&filter));
        Ok(filter)
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        let changing = self.0.changing.lock();
        changing.unwrap_or_else(PoisonError::into_inner)
    }

    /// The filter in force.
    #[must_use]
    pub fn filter(&self) -> Arc<Filter> {
        self.0.filter.load_full()
    }

    pub fn error(&self, target: &str, message: &str, fields: Fields<'_>) {
        self.log(Level::Error, target, message, fields);
    }

    pub fn warn(&self, target: &str, message: &str, fields: Fields<'_>) {
        self.log(Level::Warn, target, message, fields);
    }

    pub fn info(&self, target: &str, message: &str, fields: Fields<'_>) {
        self.log(Level::Info, target, message, fields);
    }

    pub fn debug(&self, target: &str, message: &str, fields: Fields<'_>) {
        self.log(Level::Debug, target, message, fields);
    }

    /// One operational line. `target` is the module's path without the crate, as `proxy::inbound`.
    pub fn log(&self, level: Level, target: &str, message: &str, fields: Fields<'_>) {
        if self.enabled(level, target) {
            let record = Record {
                at: Timestamp(SystemTime::now()),
                level,
                target,
                message,
                fields,
            };
            let mut line = String::with_capacity(TYPICAL_LINE);
            record.write(self.0.format, &mut line);
            self.0.queue.push(line, Kind::Operational);
        }
    }

    /// The same for a line that others may provoke at will: ten a second of each `class`, then only their
    /// number (spec/reliability.md T18).
    pub fn repeating(
        &self,
        level: Level,
        class: &'static str,
        target: &str,
        message: &str,
        fields: Fields<'_>,
    ) {
        if self.enabled(level, target) && self.0.queue.admit(class, limit::MOST, Instant::now()) {
            self.log(level, target, message, fields);
        }
    }

    /// The access line of a connection that ended.
    pub fn access(&self, line: &Line<'_>, end: &End<'_>) {
        self.write_access(end.level(), |at, format, out| {
            line.complete(end, at, format, out);
        });
    }

    /// The access line of a connection that opened, if anybody wants it.
    pub fn access_opened(&self, line: &Line<'_>) {
        self.write_access(Line::OPENED, |at, format, out| line.opened(at, format, out));
    }

    /// The access line of a connection that was turned away early, for a reason of this `class`. Others may provoke it at
    /// will: a hundred a second of each class, then only their number (spec/reliability.md T18).
    pub fn access_denied(&self, class: &'static str, denied: &Denied<'_>) {
        if !self.enabled(Denied::LEVEL, access_log::TARGET)
            || !(self.0.queue).admit(class, limit::MOST_DENIED, Instant::now())
        {
            return;
        }
        self.write_access(Denied::LEVEL, |at, format, out| {
            denied.write(at, format, out);
        });
    }

    fn write_access(&self, level: Level, write: impl FnOnce(SystemTime, Format, &mut String)) {
        if self.enabled(level, access_log::TARGET) {
            let mut line = String::with_capacity(TYPICAL_LINE);
            write(SystemTime::now(), self.0.access, &mut line);
            // Not every format has a line for everything.
            if !line.is_empty() {
                self.0.queue.push(line, Kind::Access);
            }
        }
    }

    /// Waits until everything queued so far is written, `within` at the longest. False if it is not.
    #[must_use]
    pub fn flush(&self, within: Duration) -> bool {
        self.0.queue.flush(within)
    }

    /// The last flush; later lines are dropped and counted. One second is the custom (spec/control.md §13).
    pub fn shut_down(&self, within: Duration) -> bool {
        self.0.queue.close();
        self.0.queue.flush(within)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger")
            .field("format", &self.0.format)
            .field("filter", &self.0.filter.load())
            .finish_non_exhaustive()
    }
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An access line with all fields has about 600 bytes.
const TYPICAL_LINE: usize = 640;

#[cfg(test)]
mod tests;
