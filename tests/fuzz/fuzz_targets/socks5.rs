//! A negotiation sees bytes, not reads: cut anywhere, they give the same replies, the same end and the same rest for the application.

#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;
use proxy::capture::socks5::{Negotiation, Received, Refusal, Step, Target};

fuzz_target!(|input: &[u8]| {
    let whole = play(&[input]);
    assert_eq!(whole, play(&pieces::pieces(input)));
    assert_eq!(whole, play(&input.chunks(1).collect::<Vec<_>>()));
    if let Some(Ok(target)) = &whole.end {
        check(target);
    }
});

/// What a client would see, where we would dial, and what is left for the application.
#[derive(Debug, PartialEq)]
struct Played {
    replies: Vec<u8>,
    end: Option<Result<Target, Refusal>>,
    left: Vec<u8>,
}

/// As a shell would: what was not consumed is given again with the next piece.
fn play(pieces: &[&[u8]]) -> Played {
    let mut negotiation = Negotiation::new();
    let (mut replies, mut left, mut end) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        left.extend_from_slice(piece);
        while end.is_none() {
            let step = match negotiation.receive(&left) {
                Ok(Received { consumed, step }) => {
                    left.drain(..consumed);
                    step
                }
                Err(refusal) => {
                    assert_eq!(negotiation.receive(b"more"), Err(refusal));
                    end = Some(Err(refusal));
                    continue;
                }
            };
            match step {
                Step::NeedMore => break,
                Step::Reply(bytes) => replies.extend_from_slice(bytes),
                Step::Target(target) => end = Some(Ok(target)),
            }
        }
    }
    if let Some(Err(_)) = end {
        left.clear(); // nobody will read it
    }
    Played { replies, end, left }
}

fn check(target: &Target) {
    match target {
        Target::Address(address) => {
            assert_ne!(address.port(), 0);
            assert_eq!(address.ip(), address.ip().to_canonical());
        }
        Target::Host { hostname, port } => {
            assert_ne!(*port, 0);
            assert!(!hostname.is_empty() && hostname.len() <= 253);
            assert!(hostname.parse::<std::net::IpAddr>().is_err());
        }
    }
}
