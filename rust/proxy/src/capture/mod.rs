//! How traffic reaches us: redirected by the kernel, asked for in SOCKS5, or through a port of its own.

pub mod accept;
pub(crate) mod listener;
pub mod original_dst;
pub mod socks5;
mod way_in;

pub(crate) use way_in::WayIn;
