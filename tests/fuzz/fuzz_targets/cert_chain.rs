//! Whatever an authority answers is refused in a sentence of bounded length, as no input can be a certificate on our key.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mesh::identity::Identity;
use proxy::tls::{PrivateKey, WorkloadCertificate, validity_of};

/// As the seeds name it.
const NAME: &str = "spiffe://cluster.local/ns/fuzz/sa/client";
/// Between the chain and the roots; no PEM has it.
const SEPARATOR: u8 = 0;
/// A reason may quote four names of 128 characters, each of which may need ten to be printed.
const LONGEST: usize = 8 * 1024;

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate().unwrap());

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == SEPARATOR);
    let (chain, roots) = (parts.next().unwrap_or_default(), parts.next());
    let identity = Identity::parse(NAME).unwrap();
    let made = WorkloadCertificate::new(identity, &KEY, chain, roots.unwrap_or_default());
    let error = made.expect_err("nobody has signed our key").to_string();
    assert!(!error.is_empty() && error.len() < LONGEST, "{error}");
    // Whoever plans by these times must be able to count with them.
    if let Ok((begins, ends)) = validity_of(chain) {
        assert!(ends.checked_sub(begins).is_some());
    }
});
