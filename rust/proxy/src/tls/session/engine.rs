//! rustls' unbuffered machine, turned step by step; `plain` says when and with what.
//!
//! Knows nothing of peers, limits or when a connection is over.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{CommonState, Error};

use super::TlsError;
use crate::tls::record::{RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER};

/// Boxed: a session moves between tasks and tables more often than it is built.
pub(super) enum Engine {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What to do once the connection has nothing to say by itself.
#[derive(Clone, Copy)]
pub(super) enum Job<'a> {
    Close,
    Encrypt(&'a [u8]),
    Read,
}

pub(super) enum Step {
    Again,
    PeerClosed,
    /// The job is done, or more input is needed.
    Rest,
}

impl Engine {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Client(connection) => connection,
            Self::Server(connection) => connection,
        }
    }

    /// One turn of rustls' machine; also how many bytes of `incoming` it is done with.
    pub(super) fn step(
        &mut self,
        incoming: &mut [u8],
        job: Job<'_>,
        outgoing: &mut Vec<u8>,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> (usize, Result<Step, TlsError>) {
        let mut text = Vec::new();
        let (done, step) = match self {
            Self::Client(connection) => settle(
                connection.process_tls_records(incoming),
                job,
                outgoing,
                &mut text,
            ),
            Self::Server(connection) => settle(
                connection.process_tls_records(incoming),
                job,
                outgoing,
                &mut text,
            ),
        };
        if !text.is_empty() {
            plaintext(put_back(incoming, done, &text));
        }
        (done, step)
    }

    /// After an error the alert still lies in the connection. It may be asked for that and nothing else: its
    /// place in the input is lost.
    pub(super) fn drain_alerts(&mut self, outgoing: &mut Vec<u8>) {
        while self.common().wants_write() {
            let (_, step) = self.step(&mut [], Job::Read, outgoing, &mut |_| {});
            if step.is_err() {
                return;
            }
        }
    }
}

/// Does what rustls asks for in one state.
fn settle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    job: Job<'_>,
    outgoing: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> (usize, Result<Step, TlsError>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut records)) => {
            let mut step = Ok(Step::Again);
            while let Some(record) = records.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        text.extend_from_slice(record.payload);
                    }
                    Err(error) => step = Err(error.into()),
                }
            }
            step
        }
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            append(outgoing, 0, |space| Ok(message.encode(space)?)).map(|()| Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(sent)) => {
            sent.done(); // it lies in `outgoing`, in order
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(mut writer)) => match job {
            Job::Close => append(outgoing, ALERT_RECORD, |space| {
                Ok(writer.queue_close_notify(space)?)
            }),
            Job::Encrypt(text) => append(outgoing, encrypted_len(text.len()), |space| {
                Ok(writer.encrypt(text, space)?)
            }),
            Job::Read => Ok(()),
        }
        .map(|()| Step::Rest),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Step::Rest),
        Ok(_) => Err(TlsError::Protocol(
            "early data, which was not offered".into(),
        )),
        Err(error) => Err(error.into()),
    };
    (discard, step)
}

/// rustls has decrypted in place and then given us a copy; the caller wants to know where the bytes lie. `text` is
/// one record's, the last of the `done` bytes that are consumed.
fn put_back<'a>(incoming: &'a mut [u8], done: usize, text: &[u8]) -> &'a [u8] {
    let end = done - RECORD_TRAILER;
    let place = &mut incoming[end - text.len()..end];
    place.copy_from_slice(text);
    place
}

/// Lets `write` fill `size` bytes at the end of `outgoing`, more if it asks for more.
fn append(
    outgoing: &mut Vec<u8>,
    mut size: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Unwritten>,
) -> Result<(), TlsError> {
    let start = outgoing.len();
    loop {
        outgoing.resize(start + size, 0);
        match write(&mut outgoing[start..]) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(Unwritten::TooSmall(needed)) if needed > size => size = needed,
            Err(_) => {
                outgoing.truncate(start);
                return Err(Error::EncryptError.into());
            }
        }
    }
}

enum Unwritten {
    Never,
    TooSmall(usize),
}

impl From<EncodeError> for Unwritten {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self::TooSmall(required_size)
            }
            EncodeError::AlreadyEncoded => Self::Never,
        }
    }
}

impl From<EncryptError> for Unwritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self::TooSmall(required_size)
            }
            EncryptError::EncryptExhausted => Self::Never,
        }
    }
}

/// What stands around each payload.
pub(super) const RECORD_OVERHEAD: usize = RECORD_HEADER + RECORD_TRAILER;
/// An encrypted alert.
pub(super) const ALERT_RECORD: usize = 2 + RECORD_OVERHEAD;

/// Exact unless a key update goes in front.
pub(super) fn encrypted_len(plaintext: usize) -> usize {
    plaintext + plaintext.div_ceil(RECORD_PAYLOAD) * RECORD_OVERHEAD
}
