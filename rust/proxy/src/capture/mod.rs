//! How traffic reaches us: redirected by the kernel, or asked for in SOCKS5.

pub mod accept;
pub mod original_dst;
pub mod socks5;
