//! How the C library's allocator gives memory back.
#![allow(unsafe_code, reason = "mallopt has no safe form")]

/// Blocks from here on are mapped by themselves and go back to the kernel when they are freed. Above the largest buffer
/// of the byte path (`OUTGOING_HIGH`, 128 KiB), which would otherwise be mapped anew for every burst.
#[cfg(target_env = "gnu")]
const THRESHOLD: libc::c_int = 256 * 1024;

/// Keeps memory after a burst near what it was before.
///
/// glibc raises its thresholds whenever a large block is freed; later large blocks then come from the threads' arenas
/// and leave holes there, and resident memory climbs in steps although nothing is held. Setting the thresholds once
/// turns that off (measured by `tests/integration/test_relay_load.py`: +2.7 MiB over 10,000 connections without, +0.3
/// with). Other C libraries need nothing.
pub fn settle_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and no pointer; it is thread-safe, and a value it refuses changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
    }
}

/// Gives the free pages between what is in use back to the kernel, too. Walks the heap (a millisecond for each 10 MiB or
/// so), so it is for quiet moments.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and no pointer, and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the allocator holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorFigures {
    /// Of the kernel, for blocks of usual size: `arena`.
    pub arenas: usize,
    /// Of that, in use: `uordblks`.
    pub used: usize,
    /// Of that, kept to be given out again: `fordblks`.
    pub free: usize,
    /// In large blocks that are mapped by themselves: `hblkhd`.
    pub mapped: usize,
}

/// As mallinfo2(3) has them; `None` for another C library.
#[must_use]
pub fn allocator_figures() -> Option<AllocatorFigures> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes nothing, gives numbers; it locks each arena in turn and is thread-safe.
        let info = unsafe { libc::mallinfo2() };
        Some(AllocatorFigures {
            arenas: info.arena,
            used: info.uordblks,
            free: info.fordblks,
            mapped: info.hblkhd,
        })
    }
    #[cfg(not(target_env = "gnu"))]
    None
}
