use std::io::Read;

use proptest::prelude::*;

use super::*;

const ALL: [Encoding; 4] = [
    Encoding::Brotli,
    Encoding::Deflate,
    Encoding::Gzip,
    Encoding::Zstd,
];

fn compressed(encoding: Encoding, pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut compressor = Compressor::new(encoding).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&compressor.add(piece).unwrap());
    }
    out.extend_from_slice(&compressor.finish().unwrap());
    out
}

/// What it was, by the decoders of the same libraries.
pub(in crate::telemetry::stats) fn decompressed(encoding: Encoding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        Encoding::Brotli => brotli::Decompressor::new(data, 4096).read_to_end(&mut out),
        Encoding::Deflate => flate2::read::ZlibDecoder::new(data).read_to_end(&mut out),
        Encoding::Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out),
        Encoding::Zstd => zstd::Decoder::new(data).unwrap().read_to_end(&mut out),
    }
    .unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_pieces_the_text_comes_back(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..8)
    ) {
        for encoding in ALL {
            let back = decompressed(encoding, &compressed(encoding, &pieces));
            prop_assert_eq!(back, pieces.concat(), "{:?}", encoding);
        }
    }
}

#[test]
fn an_exposition_becomes_much_smaller() {
    let line = |number: u32| {
        let text = format!(
            "istio_tcp_connections_opened_total{{source_workload=\"w{number}\",x=\"{}\"}} {number}\n",
            "same ".repeat(100)
        );
        text.into_bytes()
    };
    let pieces: Vec<_> = (0..1000).map(line).collect();
    let whole = pieces.concat().len();
    for encoding in ALL {
        let size = compressed(encoding, &pieces).len();
        assert!(size * 20 < whole, "{encoding:?}: {size} of {whole}");
    }
}
