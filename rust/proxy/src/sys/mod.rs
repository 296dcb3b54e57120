//! What the kernel is asked for: listening, dialling, probing sockets, process limits.
//!
//! No policy, no logging, no runtime of its own: options go in, sockets and `io::Error`s come out, and a
//! failure that only deserves a warning comes back as a value. The only module of the crate (next to the
//! kernel record layer) where `unsafe` is allowed; most of it goes through `socket2` and needs none.

mod accepted;
mod address;
mod allocator;
mod dial;
mod event_fd;
mod listen;
mod original_destination;
mod probe;
mod process;
mod sampling;
mod send_queue;
mod splice;

pub use accepted::{AcceptedOptions, Keepalive};
pub use address::canonical;
pub use allocator::{AllocatorFigures, allocator_figures, return_free_memory, settle_allocator};
pub use dial::{DialSocket, socket_for_dial};
pub use event_fd::EventFd;
pub use listen::{ListenOptions, Listener, ReusePort, listen, listen_group};
pub use original_destination::{OriginalAddress, original_destination};
pub use probe::{
    abort_on_close, finish_on_close, peer_hung_up, peer_reset, reset, unread_bytes, unsent_bytes,
};
pub use process::{
    DescriptorLimit, forbid_dumps, max_fds, open_fds, raise_nofile_limit, resident_memory,
    resident_memory_peak, touches_reserve,
};
pub use sampling::{Sample, Sampling, this_thread, thread_name, threads};
pub use send_queue::limit_unsent;
pub use splice::{Pipe, block_sigpipe, is_unsupported};

#[cfg(test)]
pub(crate) mod counting;
#[cfg(test)]
pub(crate) use sampling::turn as sampling_turn;
#[cfg(test)]
mod testing;
