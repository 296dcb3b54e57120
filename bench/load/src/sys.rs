//! The system calls that std and socket2 leave out: epoll, sendfile, and the limit on descriptors.
//!
//! The only file of this crate with `unsafe`; everything here gives `io::Error` and owned descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub(crate) const READ: u32 = libc::EPOLLIN as u32;
pub(crate) const WRITE: u32 = libc::EPOLLOUT as u32;

/// Level-triggered readiness. A token is whatever the caller finds its connection by.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: epoll_create1 has just given us this descriptor and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            epoll,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024],
        })
    }

    pub(crate) fn add(&self, fd: &impl AsRawFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), token, interest)
    }

    pub(crate) fn change(&self, fd: &impl AsRawFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), token, interest)
    }

    fn control(&self, operation: i32, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest,
            u64: token as u64,
        };
        // SAFETY: `event` outlives the call, and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }

    /// Wait, and fill `ready` with (token, events). Empty after `timeout` (rounded up to a millisecond).
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<(usize, u32)>,
    ) -> io::Result<()> {
        let millis = timeout.map_or(-1, |t| {
            i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        ready.clear();
        // SAFETY: `events` has `room` elements, and lives through the call.
        let found = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                room,
                millis,
            )
        };
        let found = match check(found) {
            Ok(found) => usize::try_from(found).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        ready.extend(
            self.events[..found]
                .iter()
                .map(|event| (event.u64 as usize, event.events)),
        );
        Ok(())
    }
}

/// Bytes that can be sent without being copied into the kernel: a file that lives in memory.
pub(crate) struct Payload {
    file: File,
    size: usize,
}

impl Payload {
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        // SAFETY: the name is a C string that outlives the call; the result is checked before it is owned.
        let fd = check(unsafe { libc::memfd_create(c"payload".as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: memfd_create has just given us this descriptor and nobody else has it.
        let mut file = unsafe { File::from_raw_fd(fd) };
        let pattern: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251) as u8).collect();
        io::Write::write_all(&mut file, &pattern)?;
        Ok(Self { file, size })
    }

    /// Send up to `most` bytes, from the start of the payload; how many were taken.
    pub(crate) fn send(&self, to: &impl AsRawFd, most: usize) -> io::Result<usize> {
        let mut offset: libc::off_t = 0;
        let size = most.min(self.size);
        // SAFETY: both descriptors are open for the length of the call, and `offset` outlives it.
        let sent =
            unsafe { libc::sendfile(to.as_raw_fd(), self.file.as_raw_fd(), &raw mut offset, size) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Have as many descriptors as we may: root may have what `fs.nr_open` says, anybody the hard limit.
pub(crate) fn raise_descriptors(wanted: u64) {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) } != 0 {
        return;
    }
    for most in [now.rlim_max.max(wanted), now.rlim_max] {
        let more = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: `more` outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const more) } == 0 {
            return;
        }
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
