//! Limits and sizes of this process.
#![allow(
    unsafe_code,
    reason = "getrlimit and setrlimit have no safe form in std"
)]

use std::fs;
use std::io;

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

/// The soft limit of open descriptors.
pub fn max_fds() -> io::Result<u64> {
    nofile().map(|limit| limit.rlim_cur)
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

#[cfg(test)]
mod tests;
