//! Work for the pure crates, in sizes: meshes to decide in, tunnels to speak through.
//!
//! What is here is set up, not measured: `benches/` times it, `examples/pump.rs` has its instructions counted. The
//! record layer gets its own bench beside these two once it stands.

pub mod istio;
pub mod meshes;
pub mod readers;
pub mod tunnels;
