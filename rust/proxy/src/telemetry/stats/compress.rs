//! Compressing a text piece by piece, in little memory. Knows no HTTP; `encoding.rs` chooses.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::encoding::Encoding;

/// A compressed text under way. The encoders are boxed: some are large, and most answers have none.
pub(super) enum Compressor {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Deflate(Box<ZlibEncoder<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Compressor {
    /// Fails only if there is no memory for it.
    pub(super) fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Brotli => {
                let out = Vec::new();
                let brotli = brotli::CompressorWriter::new(out, BUFFER, BROTLI_LEVEL, WINDOW);
                Self::Brotli(Box::new(brotli))
            }
            Encoding::Deflate => {
                Self::Deflate(Box::new(ZlibEncoder::new(Vec::new(), Compression::fast())))
            }
            Encoding::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))),
            Encoding::Zstd => {
                let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                zstd.window_log(WINDOW)?;
                Self::Zstd(Box::new(zstd))
            }
        })
    }

    /// Takes in some text and gives what is ready of the compressed one, which may be nothing yet.
    pub(super) fn add(&mut self, text: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Brotli(encoder) => {
                encoder.write_all(text)?;
                encoder.get_mut()
            }
            Self::Deflate(encoder) => {
                encoder.write_all(text)?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                encoder.write_all(text)?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(text)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// What was held back, and the end.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        let out = match self {
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Deflate(encoder) => encoder.finish()?,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        Ok(out.into())
    }
}

/// The fast levels: an exposition repeats itself so much that the slow ones save little more, and a probe may wait
/// for the piece that is being compressed.
const BROTLI_LEVEL: u32 = 2;
const ZSTD_LEVEL: i32 = 1;
/// 512 KiB of history, as a power of two: more than the samples of one pair are apart, little enough to hold four times.
const WINDOW: u32 = 19;
const BUFFER: usize = 64 * 1024;

#[cfg(test)]
pub(super) mod tests;
