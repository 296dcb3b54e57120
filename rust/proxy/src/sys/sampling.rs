//! Stacks of running threads, taken by signals that count each thread's own CPU time.
//!
//! A thread that does nothing is never disturbed. What the signal handler may do is little (signal-safety(7)): it
//! unwinds into a slot that was there before and marks it full; everything else is `profile.rs`'s.
#![allow(
    unsafe_code,
    reason = "timers of threads and signal handlers have no safe form"
)]

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::time::Duration;

/// One stack, innermost frame first.
#[derive(Debug)]
pub struct Sample<'a> {
    /// The thread's number, as the kernel has it.
    pub thread: i32,
    /// Periods of CPU time that it stands for.
    pub periods: u64,
    /// Addresses of instructions: the next one's, but for the first.
    pub stack: &'a [usize],
}

/// The one sampler of the process, while it samples.
#[derive(Debug)]
pub struct Sampling {
    period: Duration,
    timers: Vec<(i32, Timer)>,
}

#[derive(Debug)]
struct Timer(libc::timer_t);

// SAFETY: a timer's name is a number to the kernel, whatever C calls it; any thread of the process may use it.
unsafe impl Send for Timer {}

impl Sampling {
    /// Makes ready; no thread is sampled yet.
    ///
    /// # Errors
    /// `ResourceBusy` while another one is, `AddrInUse` if somebody else uses the signal, whatever the kernel says.
    pub fn begin(period: Duration) -> io::Result<Self> {
        if BUSY.swap(true, AcqRel) {
            let text = "a profile is being taken already";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        // From here on dropping it makes room for the next.
        let sampling = Self {
            period,
            timers: Vec::new(),
        };
        for slot in slots() {
            // Not one that is taken: a late signal of the last profile may be writing it still.
            let _ = slot.state.compare_exchange(FULL, FREE, AcqRel, Relaxed);
        }
        LOST.store(0, Relaxed);
        // The first unwinding in a process may have to load something, which a signal handler must not.
        backtrace::trace(|_| true);
        listen()?;
        ACTIVE.store(true, Release);
        Ok(sampling)
    }

    /// Samples one more thread. One that has ended meanwhile is passed over.
    ///
    /// # Errors
    /// No more timers.
    pub fn add(&mut self, thread: i32) -> io::Result<()> {
        if self.timers.iter().any(|(known, _)| *known == thread) {
            return Ok(());
        }
        match timer_of(thread, self.period) {
            Ok(timer) => self.timers.push((thread, Timer(timer))),
            // No such thread (any more).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ESRCH)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes what has been sampled so far.
    pub fn take(&self, mut each: impl FnMut(Sample<'_>)) {
        for slot in slots() {
            if slot.state.load(Acquire) != FULL {
                continue;
            }
            // SAFETY: a full slot is its reader's, of which there is one: the one sampler, borrowed here.
            let content = unsafe { &*slot.content.get() };
            each(Sample {
                thread: content.thread,
                periods: content.periods,
                stack: &content.stack[..content.depth],
            });
            slot.state.store(FREE, Release);
        }
    }

    /// Samples for which there was no slot, since the beginning.
    #[must_use]
    pub fn lost(&self) -> u64 {
        LOST.load(Relaxed)
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        ACTIVE.store(false, Release);
        for (_, timer) in self.timers.drain(..) {
            // SAFETY: made by `timer_create` and deleted once, here.
            unsafe { libc::timer_delete(timer.0) };
        }
        BUSY.store(false, Release);
    }
}

/// The threads of this process.
///
/// # Errors
/// `/proc` is not there.
pub fn threads() -> io::Result<Vec<i32>> {
    let tasks = std::fs::read_dir("/proc/self/task")?;
    let numbers = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.collect())
}

/// A thread's name, if it is still there.
#[must_use]
pub fn thread_name(thread: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The number of the calling thread.
#[must_use]
pub fn this_thread() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Installs the handler, once for the life of the process: a signal that is still under way when a profile ends must
/// find one, else it would end us.
fn listen() -> io::Result<()> {
    // SAFETY: both structures are ours and outlive the calls; the handler keeps to signal-safety(7).
    unsafe {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        if libc::sigaction(libc::SIGPROF, std::ptr::null(), before.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let before = before.assume_init().sa_sigaction;
        let ours = on_signal as extern "C" fn(_, _, _) as usize;
        if before == ours {
            return Ok(());
        }
        if before != libc::SIG_DFL && before != libc::SIG_IGN {
            let text = "SIGPROF belongs to somebody else in this process";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = ours;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        if libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn timer_of(thread: i32, period: Duration) -> io::Result<libc::timer_t> {
    // SAFETY: the structures are ours and outlive the calls; `timer` is read only after it was written.
    unsafe {
        let mut event = MaybeUninit::<libc::sigevent>::zeroed().assume_init();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = thread;
        let mut timer = MaybeUninit::<libc::timer_t>::zeroed();
        if libc::timer_create(clock_of(thread), &raw mut event, timer.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let timer = timer.assume_init();
        let every = libc::timespec {
            tv_sec: period.as_secs().cast_signed(),
            tv_nsec: period.subsec_nanos().into(),
        };
        let setting = libc::itimerspec {
            it_interval: every,
            it_value: every,
        };
        if libc::timer_settime(timer, 0, &raw const setting, std::ptr::null_mut()) != 0 {
            let error = io::Error::last_os_error();
            libc::timer_delete(timer);
            return Err(error);
        }
        Ok(timer)
    }
}

/// The clock of a thread's CPU time (`MAKE_THREAD_CPUCLOCK` of linux/posix-timers.h, what `pthread_getcpuclockid` does).
fn clock_of(thread: i32) -> libc::clockid_t {
    const PER_THREAD: i32 = 4;
    const SCHEDULER: i32 = 2;
    !thread << 3 | PER_THREAD | SCHEDULER
}

extern "C" fn on_signal(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    if !ACTIVE.load(Acquire) {
        return;
    }
    // SAFETY: errno is this thread's own; whoever was interrupted must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    record(info);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn record(info: *const libc::siginfo_t) {
    let start = NEXT.fetch_add(1, Relaxed);
    let Some(all) = SLOTS.get() else {
        return;
    };
    // A few tries: a reader that is late leaves most slots full, and searching all of them takes too long here.
    for attempt in 0..TRIES {
        let slot = &all[start.wrapping_add(attempt) % all.len()];
        let free = slot
            .state
            .compare_exchange(FREE, TAKEN, AcqRel, Relaxed)
            .is_ok();
        if free {
            // SAFETY: a taken slot is ours until it is marked full.
            let content = unsafe { &mut *slot.content.get() };
            content.thread = this_thread();
            content.periods = 1 + overrun(info);
            content.depth = unwind(&mut content.stack);
            slot.state.store(FULL, Release);
            return;
        }
    }
    LOST.fetch_add(1, Relaxed);
}

/// Gives how many frames there were; the handler's own are left out.
fn unwind(stack: &mut [usize; DEPTH]) -> usize {
    let (mut depth, mut skip) = (0, true);
    let handler = on_signal as extern "C" fn(_, _, _) as *mut libc::c_void;
    // SAFETY: nothing else of the backtrace crate's runs in this thread meanwhile that would need its lock, which a
    // signal handler must not wait for: unwinding alone shares nothing.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            if skip {
                // Ours, then the kernel's trampoline, then whoever was interrupted.
                skip = frame.symbol_address() != handler;
                return true;
            }
            let address = frame.ip() as usize;
            if address == 0 {
                return false; // below a thread's first function
            }
            stack[depth] = address;
            depth += 1;
            depth < DEPTH
        });
    }
    if depth == 0 {
        return 0;
    }
    // The trampoline.
    stack.copy_within(1..depth, 0);
    depth - 1
}

/// Periods that passed before the signal could be delivered: the kernel looks at these clocks once a tick.
fn overrun(info: *const libc::siginfo_t) -> u64 {
    // SAFETY: the kernel gave it. Of a timer's signal, behind number, errno, code and padding stand the timer's own
    // number and the overrun, each an int (asm-generic/siginfo.h); libc has no names for them.
    let (code, overrun) = unsafe { ((*info).si_code, *info.cast::<i32>().add(5)) };
    if code != libc::SI_TIMER {
        return 0;
    }
    u64::try_from(overrun).unwrap_or(0)
}

struct Slot {
    state: AtomicU8,
    content: UnsafeCell<Content>,
}

struct Content {
    thread: i32,
    periods: u64,
    depth: usize,
    stack: [usize; DEPTH],
}

// SAFETY: `state` says whose the content is.
unsafe impl Sync for Slot {}

fn slots() -> &'static [Slot] {
    SLOTS.get_or_init(|| {
        let empty = || Slot {
            state: AtomicU8::new(FREE),
            content: UnsafeCell::new(Content {
                thread: 0,
                periods: 0,
                depth: 0,
                stack: [0; DEPTH],
            }),
        };
        (0..SLOTS_COUNT).map(|_| empty()).collect()
    })
}

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const FULL: u8 = 2;

/// Made by the first profile, and kept: a late signal may still look. 1 MiB.
static SLOTS: OnceLock<Box<[Slot]>> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
/// Somebody has the sampler.
static BUSY: AtomicBool = AtomicBool::new(false);
/// Signals are to be heeded.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// A tenth of a second of sixteen threads at 1000 Hz.
const SLOTS_COUNT: usize = 1600;
const TRIES: usize = 16;
/// Frames of a stack, innermost first. Futures in futures go some fifty deep.
const DEPTH: usize = 80;

/// One sampler in a process: tests that have it take turns.
#[cfg(test)]
pub(crate) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
