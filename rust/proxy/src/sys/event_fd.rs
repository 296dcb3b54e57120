//! A wake-up that another event loop can wait for (eventfd(2)).
#![allow(unsafe_code, reason = "eventfd has no safe form in std or socket2")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};

/// Raised by Rust, awaited by Python's event loop.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// Opens one, not raised.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked before use.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(Self(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// Makes it readable.
    pub fn raise(&self) {
        // It fails only when 2^64 raises were not cleared, and then it is readable.
        let _ = (&self.0).write_all(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable until it is raised again.
    pub fn clear(&self) {
        // It fails only when it was not raised.
        let _ = (&self.0).read(&mut [0; 8]);
    }

    /// What to wait on.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
