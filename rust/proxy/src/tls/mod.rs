//! TLS between nodes: keys, certificates, who may be on the other end, and bytes in, bytes out.
//!
//! The only folder that names rustls, webpki, rcgen or x509-parser, so that their next major release costs
//! one folder. No socket and no task lives here: `tunnel` owns the connection and drives a [`Session`].
//!
//! | File | What it knows |
//! |---|---|
//! | `keys` | private keys that never leave this process, and the requests made with them |
//! | `certificate` | what a certificate says: names, validity, serial; PEM in and out |
//! | `credentials` | one key, chain and set of roots that belong together |
//! | `store` | which credentials are in use now |
//! | `config` | versions, suites, groups, ALPN: the same for every connection |
//! | `anchors` | the roots, and the ways from a leaf to one of them |
//! | `trust` | whom a chain names, if we may believe it |
//! | `verify` | is the peer who it must be, and why not |
//! | `record` | its records, once the handshake is over |
//! | `chains` | which chains have passed that check before |
//! | `revocation` | whose certificate counts no more |
//! | `session` | one connection as bytes in, bytes out |
//! | `error` | why a connection ended, for the log and for the metric |

mod anchors;
mod certificate;
mod chains;
mod config;
mod credentials;
mod error;
mod keys;
mod record;
mod revocation;
mod session;
mod store;
mod trust;
mod verify;

#[cfg(test)]
pub(crate) mod testing;

pub use certificate::CertificateInfo;
pub use config::{ClientConfig, ServerConfig};
pub use credentials::{CertificateDump, CredentialError, WorkloadCertificate, validity_of};
pub use error::TlsError;
pub use keys::{KeyError, PrivateKey};
pub use record::{
    RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER, RecordChoice, RecordPlan, choose_records,
};
pub use revocation::{CrlError, RevocationList, Revocations, Standing};
pub use session::{Facts, Session};
pub use store::{CredentialStore, NoCredential};
pub use verify::VerifyError;
