//! Which library seals the records: a self-test of less than a millisecond, once, at start.
//!
//! First both must be right: by the specification's own example, and by each other. Then the faster one at full
//! records of AES-256-GCM is taken, which differs by processor: AWS-LC has code for AVX-512, ring has not. The only
//! place under `tls` with a clock, which is handed in.

use std::fmt;
use std::time::{Duration, Instant};

use super::aead::{Aead, Algorithm, Library, NONCE};
use super::{RECORD_HEADER, RECORD_PAYLOAD, RecordPlan, TAG, TlsError};
use crate::settings::{AeadWish, RecordLayer, RecordSettings};

/// How records are made, and one line for the log that says why.
#[derive(Clone, Debug)]
pub struct RecordChoice {
    /// What to do.
    pub plan: RecordPlan,
    /// For example `aes-gcm by aws-lc: 11.2 GB/s against 7.5 by ring (AVX-512, VAES)`.
    pub why: String,
}

/// For all of the measuring: half of what the self-test may take.
const MEASURE: Duration = Duration::from_micros(500);
/// The best of so many rounds is what the processor can do; the others were disturbed.
const ROUNDS: usize = 24;
/// ring must be faster by a twentieth: below that it is noise, and one library is simpler than two.
const MARGIN: f64 = 1.05;

/// Settles how records are made from now on. `now` is the clock.
///
/// # Errors
/// [`TlsError::Internal`] when the library that is asked for, or every one, fails the self-test.
pub fn choose_records(
    settings: &RecordSettings,
    now: impl Fn() -> Instant,
) -> Result<RecordChoice, TlsError> {
    let (aead, why) = match (settings.records, settings.aead) {
        (RecordLayer::Rustls, _) => (Library::AwsLc, "by rustls, as set".into()),
        (RecordLayer::InPlace, AeadWish::AwsLc) => pinned(Library::AwsLc)?,
        (RecordLayer::InPlace, AeadWish::Ring) => pinned(Library::Ring)?,
        (RecordLayer::InPlace, AeadWish::Auto) => better(now)?,
    };
    let plan = RecordPlan {
        layer: settings.records,
        aead,
        key_update_after: settings.key_update_after,
    };
    Ok(RecordChoice { plan, why })
}

fn pinned(library: Library) -> Result<(Library, String), TlsError> {
    check(library)?;
    Ok((library, format!("aes-gcm by {library}, as set")))
}

fn better(now: impl Fn() -> Instant) -> Result<(Library, String), TlsError> {
    let features = features();
    let other = |right, wrong: TlsError| (right, format!("aes-gcm by {right}: {wrong}"));
    match (check(Library::AwsLc), check(Library::Ring)) {
        (Err(wrong), Err(_)) => return Err(wrong),
        (Err(wrong), Ok(())) => return Ok(other(Library::Ring, wrong)),
        (Ok(()), Err(wrong)) => return Ok(other(Library::AwsLc, wrong)),
        (Ok(()), Ok(())) => {}
    }
    agree()?;
    if features.is_empty() {
        // Both are slow then, and the measurement would take longer than it may.
        let why = "aes-gcm by aws-lc: no AES instructions here".into();
        return Ok((Library::AwsLc, why));
    }
    let [aws_lc, ring] = measure(now)?;
    let library = prefer(aws_lc, ring);
    let (own, other) = match library {
        Library::AwsLc => (aws_lc, (ring, Library::Ring)),
        Library::Ring => (ring, (aws_lc, Library::AwsLc)),
    };
    let (other, name) = other;
    let features = features.join(", ");
    Ok((
        library,
        format!("aes-gcm by {library}: {own} against {other} by {name} ({features})"),
    ))
}

fn prefer(aws_lc: Speed, ring: Speed) -> Library {
    if ring.0 > aws_lc.0 * MARGIN {
        Library::Ring
    } else {
        Library::AwsLc
    }
}

/// Bytes per nanosecond, which is GB/s; sealed and opened again count once each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed(f64);

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} GB/s", self.0)
    }
}

/// Alternating, so that a disturbance meets both.
fn measure(now: impl Fn() -> Instant) -> Result<[Speed; 2], TlsError> {
    let keys = [key(Library::AwsLc)?, key(Library::Ring)?];
    let mut best = [Duration::MAX; 2];
    let mut record = vec![0x5a; RECORD_PAYLOAD + TAG];
    let start = now();
    for _ in 0..ROUNDS {
        for (key, best) in keys.iter().zip(&mut best) {
            let before = now();
            round(key, &mut record)?;
            *best = now().duration_since(before).min(*best);
        }
        if now().duration_since(start) > MEASURE {
            break;
        }
    }
    Ok(best.map(|best| Speed(2.0 * RECORD_PAYLOAD as f64 / best.as_nanos().max(1) as f64)))
}

fn round(key: &Aead, record: &mut [u8]) -> Result<(), TlsError> {
    const HEADER: [u8; RECORD_HEADER] = [23, 3, 3, 0x40, 0x11];
    let (text, tag) = record.split_at_mut(RECORD_PAYLOAD);
    let made = key.seal([0; NONCE], &HEADER, text).map_err(|_| failed())?;
    tag.copy_from_slice(&made);
    key.open([0; NONCE], &HEADER, record)
        .map_err(|_| failed())?;
    Ok(())
}

fn key(library: Library) -> Result<Aead, TlsError> {
    Aead::new(library, Algorithm::Aes256Gcm, &[0; 32])
}

/// Test case 14 of the GCM specification, both ways; and a changed tag must be refused.
fn check(library: Library) -> Result<(), TlsError> {
    const TEXT: [u8; 16] = [0; 16];
    const SEALED: [u8; 32] = [
        0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d,
        0x18, 0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a,
        0xb9, 0x19,
    ];
    let wrong = || TlsError::Internal(format!("{library} fails the self-test of AES-GCM"));
    let key = key(library)?;
    let mut text = TEXT;
    let tag = key.seal([0; NONCE], &[], &mut text).map_err(|_| wrong())?;
    let mut sealed = SEALED;
    let opened = key.open([0; NONCE], &[], &mut sealed);
    let right = [&text[..], &tag].concat() == SEALED && opened.is_ok_and(|text| text == TEXT);
    let mut changed = SEALED;
    changed[31] ^= 1;
    if right && key.open([0; NONCE], &[], &mut changed).is_err() {
        Ok(())
    } else {
        Err(wrong())
    }
}

/// What one has sealed the other opens, at lengths around the strides of their loops.
fn agree() -> Result<(), TlsError> {
    let (one, other) = (key(Library::AwsLc)?, key(Library::Ring)?);
    for (number, length) in [1, 15, 17, 255, 1025, RECORD_PAYLOAD + 1]
        .into_iter()
        .enumerate()
    {
        let text: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let (aad, nonce) = ([number as u8; RECORD_HEADER], [number as u8; NONCE]);
        for (from, to) in [(&one, &other), (&other, &one)] {
            let mut sealed = text.clone();
            let tag = from.seal(nonce, &aad, &mut sealed).map_err(|_| failed())?;
            sealed.extend_from_slice(&tag);
            if to.open(nonce, &aad, &mut sealed).map_err(|_| failed())? != text {
                return Err(failed());
            }
        }
    }
    Ok(())
}

fn failed() -> TlsError {
    TlsError::Internal("aws-lc and ring do not give the same AES-GCM".into())
}

/// What the processor has for AES-GCM, by the names that people know. None means slow.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    if !has!("aes") || !has!("pclmulqdq") {
        return Vec::new();
    }
    let mut features = Vec::new();
    if has!("avx512f") && has!("avx512bw") {
        features.push("AVX-512");
    } else if has!("avx2") {
        features.push("AVX2");
    }
    features.push(if has!("vaes") && has!("vpclmulqdq") {
        "VAES"
    } else {
        "AES-NI"
    });
    features
}

/// What the processor has for AES-GCM, by the names that people know. None means slow.
#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;
    if has!("aes") && has!("pmull") {
        vec!["ARMv8 AES"]
    } else {
        Vec::new()
    }
}

/// Not known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests;
