//! What the tunnel engine costs per frame and per stream, without a socket or a record.

use std::cell::RefCell;

use divan::{Bencher, counter::BytesCount};
use micro::tunnels::{Pair, hear, taken};

fn main() {
    divan::main();
}

/// Frames that are heard at once, as one read brings them.
const FRAMES: usize = 8;

/// Eight frames in one read: events out, bytes released, WINDOW_UPDATE now and then. The sender's part is not timed.
// One at a time: the window holds no more than one such read.
#[divan::bench(args = [128, 16_375], sample_size = 1)]
fn receive_eight_frames_of(bencher: Bencher<'_, '_>, size: usize) {
    let mut pair = Pair::new();
    let (ours, _) = pair.open();
    let pair = RefCell::new(pair);
    bencher
        .counter(BytesCount::new(FRAMES * size))
        .with_inputs(|| {
            let mut pair = pair.borrow_mut();
            pair.exchange();
            let mut wire = Vec::with_capacity(FRAMES * (size + 9));
            for _ in 0..FRAMES {
                pair.frame(ours, size, &mut wire);
            }
            wire
        })
        .bench_local_refs(|wire| hear(&mut pair.borrow_mut().server, wire));
}

/// The header of one DATA frame and its share of credit that comes back.
#[divan::bench(args = [128, 16_375])]
fn send_a_frame_of(bencher: Bencher<'_, '_>, size: usize) {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.open();
    let mut wire = Vec::new();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        if pair.client.sendable(ours) < size {
            hear(&mut pair.server, &wire);
            wire.clear();
            let credit = taken(&mut pair.server);
            hear(&mut pair.client, &credit);
        }
        pair.frame(ours, size, &mut wire);
        theirs
    });
}

/// CONNECT, 200, both ends finished: both engines, heads encoded and decoded.
#[divan::bench]
fn open_and_close_a_stream(bencher: Bencher<'_, '_>) {
    let mut pair = Pair::new();
    bencher.bench_local(|| {
        let stream = pair.open();
        pair.close(stream);
    });
}
