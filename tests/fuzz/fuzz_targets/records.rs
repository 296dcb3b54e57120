//! Records mean to our own layer what they mean to rustls': the same plaintext and the same end, cut anywhere; and what a record holds is seen where it lies, once its tag was right.
//!
//! An input is a script for a peer that has shaken hands and keeps to no rule. It is played to a server and to a
//! client, on ours with either library and on rustls' own; each has keys of its own, so the script is what is equal.

#![no_main]

mod peer;
mod pieces;

use libfuzzer_sys::fuzz_target;
use peer::{Path, Peer, Side};
use proxy::tls::{RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER, Session};

fuzz_target!(|input: &[u8]| {
    let script = script(input);
    for side in [Side::Client, Side::Server] {
        let [aws_lc, ring, rustls] = Path::EACH.map(|path| play(side, path, &script, input));
        assert_eq!(aws_lc, ring, "{side:?}: the library changed the meaning");
        assert_eq!(aws_lc, rustls, "{side:?}: rustls sees it otherwise");
    }
});

/// One thing that the peer does.
#[derive(Debug)]
enum Deed {
    Alert([u8; 2]),
    /// Nothing but padding.
    Blank(usize),
    Data(usize, usize),
    /// A whole handshake message in pieces.
    Handshake(Vec<u8>, usize),
    /// The next record, or part of one, is changed on its way.
    Harm(usize, u8),
    Raw(u8, Vec<u8>),
    /// In the clear.
    Shout(Vec<u8>),
    Update {
        answer: bool,
        told: bool,
    },
}

/// Fewer than any of the limits on what brings nothing: there ours and rustls' count differently.
const MAX_DEEDS: usize = 30;

fn script(input: &[u8]) -> Vec<Deed> {
    let mut bytes = input.iter().copied();
    let mut deeds = Vec::new();
    while deeds.len() < MAX_DEEDS {
        let Some(kind) = bytes.next() else { break };
        let mut next = || bytes.next().unwrap_or(0);
        deeds.push(match kind % 10 {
            0 => Deed::Alert([next() % 4, next()]),
            1 => Deed::Blank(usize::from(next())),
            2 | 3 => Deed::Data(usize::from(next()) * 67, usize::from(next() % 4) * 13),
            4 | 5 => {
                let (kind, cut, length) = (next(), next(), next() % 80);
                let mut message = vec![kind, 0, 0, length];
                message.extend((0..length).map(|_| next()));
                Deed::Handshake(message, usize::from(cut % 90) + 1)
            }
            6 => Deed::Harm(usize::from(next()) * 29, next() | 1),
            7 => {
                let (kind, length) = (next(), next() % 9);
                let content: Vec<u8> = (0..length).map(|_| next()).collect();
                // RFC 8446 §5.4 forbids an empty handshake record; rustls lets it pass.
                match (kind, content.is_empty()) {
                    (22, true) => Deed::Blank(1),
                    _ => Deed::Raw(kind, content),
                }
            }
            8 => {
                let length = next() % 30;
                Deed::Shout((0..length).map(|_| next()).collect())
            }
            _ => {
                let how = next();
                let (answer, told) = (how & 1 == 1, how & 6 != 6);
                Deed::Update { answer, told }
            }
        });
    }
    deeds
}

/// What somebody outside would notice.
#[derive(Debug, PartialEq)]
struct Seen {
    heard: Vec<u8>,
    closed: bool,
    /// The alert of the peer that ended it.
    alert: Option<&'static str>,
    /// How much one more byte of ours takes on the wire, if there is anything to be said: an owed key update shows.
    says: Option<usize>,
}

fn play(side: Side, path: Path, script: &[Deed], input: &[u8]) -> Seen {
    let (mut session, mut peer) = Peer::meet(side, path);
    let mut wire = Vec::new();
    let mut harm = None;
    for deed in script {
        let start = wire.len();
        match deed {
            Deed::Alert(said) => wire.extend(peer.seal(21, said, 0)),
            Deed::Blank(len) => wire.extend(peer.seal_inner(&vec![0; *len])),
            Deed::Data(len, padding) => {
                let text: Vec<u8> = (0..*len).map(|i| (i * 31 + i / 251) as u8).collect();
                wire.extend(peer.seal(23, &text, *padding));
            }
            Deed::Handshake(message, cut) => {
                for piece in message.chunks(*cut) {
                    wire.extend(peer.seal(22, piece, 0));
                }
            }
            Deed::Harm(at, flip) => {
                harm = Some((*at, *flip));
                continue;
            }
            Deed::Raw(kind, content) => wire.extend(peer.seal(*kind, content, 0)),
            Deed::Shout(bytes) => wire.extend(bytes),
            Deed::Update { answer, told } => {
                if *told {
                    wire.extend(peer.seal(22, &[24, 0, 0, 1, u8::from(*answer)], 0));
                }
                peer.update_key();
            }
        }
        if let Some((at, flip)) = harm.take()
            && wire.len() > start + 3
        {
            // At type and version rustls does not look, which is why ours is stricter there.
            let behind = wire.len() - start - 3;
            wire[start + 3 + at % behind] ^= flip;
        }
    }
    // Tells one that waits for the rest of something from one that is content.
    wire.extend(peer.seal(23, b"the end", 0));
    let sizes = pieces::pieces(input).into_iter().map(<[u8]>::len);
    listen(&mut session, path, &wire, sizes.collect())
}

/// Gives it all to the session, in pieces of these sizes over and over.
fn listen(session: &mut Session, path: Path, wire: &[u8], sizes: Vec<usize>) -> Seen {
    let mut sizes = sizes.into_iter().chain([1500]).cycle();
    let (mut rest, mut inbox, mut heard) = (wire, Vec::new(), Vec::new());
    let mut error = None;
    while !rest.is_empty() && error.is_none() {
        let (now, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        rest = later;
        inbox.extend_from_slice(now);
        let place = inbox.as_ptr_range();
        let mut end = place.start as usize;
        let mut answer = Vec::new();
        let received = session.receive(&mut inbox, &mut answer, &mut |text| {
            let start = text.as_ptr() as usize;
            assert!(start >= end + RECORD_HEADER, "plaintext over plaintext");
            end = start + text.len() + RECORD_TRAILER;
            assert!(end <= place.end as usize, "plaintext behind its record");
            heard.extend_from_slice(text);
        });
        match received {
            Ok(consumed) => {
                assert!(answer.is_empty(), "an answer that nobody asked for");
                inbox.drain(..consumed);
                let most = RECORD_HEADER + RECORD_PAYLOAD + 256;
                assert!(path == Path::RUSTLS || inbox.len() < most, "kept too much");
            }
            Err(why) => {
                let peers = why.reason().starts_with("peer_alert");
                assert!(
                    path == Path::RUSTLS || peers || !answer.is_empty(),
                    "no alert"
                );
                let again = session.receive(&mut inbox, &mut Vec::new(), &mut |_| {});
                assert_eq!(again, Err(why.clone()));
                error = Some(why);
            }
        }
    }
    let mut said = Vec::new();
    let speaks = session.encrypt(b"x", &mut said);
    assert_eq!(speaks.is_err(), error.is_some());
    let alert = error.map(|error| error.reason());
    // One that waits and one that has refused look alike from here: nothing more was heard.
    let content = session.peer_closed() || heard.ends_with(b"the end");
    Seen {
        closed: session.peer_closed(),
        alert: alert.filter(|reason| reason.starts_with("peer_alert")),
        says: content.then_some(said.len()),
        heard,
    }
}
