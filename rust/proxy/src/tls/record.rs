//! TLS 1.3 records as bytes: how much room they take around a payload.
//!
//! `session` says when a record is sealed or opened.

/// Free bytes in front of a payload: content type, version, length (RFC 8446 §5.2).
pub const RECORD_HEADER: usize = 5;
/// Free bytes behind a payload: its real content type and the tag of AES-GCM.
pub const RECORD_TRAILER: usize = 1 + 16;
/// Largest payload of a record (RFC 8446 §5.1).
pub const RECORD_PAYLOAD: usize = 16_384;
