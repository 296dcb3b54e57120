//! Names to addresses, for destinations that the mesh knows by name only (spec/dataplane.md §10.8).
//!
//! What pods are answered on their own port 53 is not here.

mod resolver;

pub(crate) use resolver::{Resolver, Settings};
