//! The two things a header block is made of: prefixed integers and strings (RFC 7541 §5).

use super::{Error, huffman};

/// Continuation octets that 2³²−1 needs behind any prefix; more could only spell zeros.
const MAX_CONTINUATION: usize = 5;

/// Takes an integer with a prefix of `bits` bits; the bits above the prefix in its first octet are ignored.
pub(super) fn read_integer(input: &mut &[u8], bits: u32) -> Result<usize, Error> {
    let prefix = (1u64 << bits) - 1;
    let mut value = u64::from(read_octet(input)?) & prefix;
    if value == prefix {
        for position in 0.. {
            if position == MAX_CONTINUATION {
                return Err(Error::IntegerTooLarge);
            }
            let octet = read_octet(input)?;
            value += u64::from(octet & 0x7f) << (7 * position);
            if octet & 0x80 == 0 {
                break;
            }
        }
    }
    match u32::try_from(value) {
        // Where usize is 16 bits wide nothing of this crate fits anyway; `try_from` keeps it total.
        Ok(value) => usize::try_from(value).map_err(|_| Error::IntegerTooLarge),
        Err(_) => Err(Error::IntegerTooLarge),
    }
}

/// Appends an integer whose first octet carries `pattern` above its prefix of `bits` bits.
pub(super) fn write_integer(value: usize, pattern: u8, bits: u32, out: &mut Vec<u8>) {
    let prefix = low_octet((1 << bits) - 1);
    let Some(mut rest) = value.checked_sub(usize::from(prefix)) else {
        out.push(pattern | low_octet(value));
        return;
    };
    out.push(pattern | prefix);
    while rest >= 0x80 {
        out.push(low_octet(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_octet(rest));
}

/// Takes a string. The text is in the block itself or, if it was Huffman coded, in `scratch`; there at most
/// `keep` bytes of it are held, so that a long string cannot grow memory. The second value is its full length.
pub(super) fn read_string<'text, 'block: 'text, 'scratch: 'text>(
    input: &mut &'block [u8],
    scratch: &'scratch mut Vec<u8>,
    keep: usize,
) -> Result<(&'text [u8], usize), Error> {
    let coded = input.first().ok_or(Error::Truncated)? & HUFFMAN != 0;
    let length = read_integer(input, 7)?;
    let (text, rest) = input.split_at_checked(length).ok_or(Error::Truncated)?;
    *input = rest;
    if !coded {
        return Ok((text, length));
    }
    scratch.clear();
    let length = huffman::decode(text, scratch, keep)?;
    Ok((scratch, length))
}

/// Appends a string, Huffman coded where that is shorter.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        write_integer(coded, HUFFMAN, 7, out);
        huffman::encode(text, out);
    } else {
        write_integer(text.len(), 0, 7, out);
        out.extend_from_slice(text);
    }
}

fn read_octet(input: &mut &[u8]) -> Result<u8, Error> {
    let (&octet, rest) = input.split_first().ok_or(Error::Truncated)?;
    *input = rest;
    Ok(octet)
}

fn low_octet(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

/// Marks a Huffman coded string in the octet that holds its length (RFC 7541 §5.2).
const HUFFMAN: u8 = 0x80;

#[cfg(test)]
mod tests;
