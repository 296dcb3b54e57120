//! Limits and sizes of this process.
#![allow(
    unsafe_code,
    reason = "getrlimit, setrlimit and prctl have no safe form in std"
)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

/// RLIMIT_NOFILE before and after raising it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    pub before: u64,
    pub after: u64,
}

/// Raises the soft limit of open descriptors to the hard one: every proxied connection needs two.
pub fn raise_nofile_limit() -> io::Result<DescriptorLimit> {
    let mut limit = nofile()?;
    let before = limit.rlim_cur;
    if before < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a fully initialised rlimit that lives through the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(DescriptorLimit {
        before,
        after: limit.rlim_cur,
    })
}

/// From now on this process leaves no core behind, and others of the same user cannot read its memory: private keys and
/// tokens are in it (spec/reliability.md T31). A program that it starts has to do the same for itself.
pub fn forbid_dumps() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a fully initialised rlimit that lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let no: libc::c_ulong = 0;
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, no, no, no, no) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The soft limit of open descriptors.
pub fn max_fds() -> io::Result<u64> {
    nofile().map(|limit| limit.rlim_cur)
}

/// Whether a descriptor is one of the last that this process may have: an eighth of the limit, 64 at most.
///
/// The kernel gives the lowest number that is free, so a high one says that nearly all are in use, without counting.
/// Traffic leaves these alone, so that readiness, metrics, logs and certificates still find one
/// (spec/reliability.md U1, F20). The limit is asked anew, as operators lower it while a process runs.
#[must_use]
pub fn touches_reserve(descriptor: &impl AsRawFd) -> bool {
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(0);
    if number < NEVER_RESERVED {
        return false;
    }
    max_fds().is_ok_and(|limit| number >= limit - RESERVE.min(limit / 8))
}

/// Descriptors open now.
pub fn open_fds() -> io::Result<u64> {
    // One of the entries is the directory handle that counts them.
    let entries = fs::read_dir("/proc/self/fd")?.count();
    Ok(entries.saturating_sub(1) as u64)
}

/// Resident memory in bytes.
pub fn resident_memory() -> io::Result<u64> {
    status_field("VmRSS:")
}

/// The largest resident memory so far, in bytes.
pub fn resident_memory_peak() -> io::Result<u64> {
    status_field("VmHWM:")
}

fn nofile() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to an rlimit that lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

fn status_field(name: &str) -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    kibibytes(&status, name)
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other(format!("no `{name}` in /proc/self/status")))
}

/// `VmRSS:  1234 kB` (proc_pid_status(5)).
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

const RESERVE: u64 = 64;
/// Below this a look at the limit is not worth its system call: no limit that works at all has its reserve there.
const NEVER_RESERVED: u64 = 100;

#[cfg(test)]
mod tests;
