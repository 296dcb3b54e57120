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
