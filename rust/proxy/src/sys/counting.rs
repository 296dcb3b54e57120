//! Counts what a piece of code allocates, for the tests that bound it.
//!
//! The allocator of the test program, each thread counting for itself; the shipped library has none of it.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What was asked for, in calls and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocated {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

/// Runs `code` and says what this thread allocated meanwhile, freed again or not.
pub(crate) fn allocated<T>(code: impl FnOnce() -> T) -> (T, Allocated) {
    let before = COUNT.get();
    let value = code();
    let after = COUNT.get();
    let allocated = Allocated {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
    };
    (value, allocated)
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<Allocated> = const { Cell::new(Allocated { calls: 0, bytes: 0 }) };
}

fn count(bytes: usize) {
    // A thread that is ending has nothing to count with any more.
    let _ = COUNT.try_with(|count| {
        let Allocated { calls, bytes: sum } = count.get();
        count.set(Allocated {
            calls: calls + 1,
            bytes: sum + bytes,
        });
    });
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches no heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
