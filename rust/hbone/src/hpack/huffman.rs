//! The Huffman code of header strings (RFC 7541 §5.2 and Appendix B).
//!
//! The code is canonical: shorter codes come first, equal lengths in the order of their symbols. So the table
//! of lengths is the whole of Appendix B; codes and the decoder's steps are computed from it while compiling.

use super::Error;

/// Octets that [`encode`] will append.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text
        .iter()
        .map(|&b| usize::from(LENGTHS[usize::from(b)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`, padded with the beginning of EOS.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    // Never more than 7 bits wait when a code of at most 30 comes: u64 holds two codes with ease.
    let (mut waiting, mut count) = (0u64, 0u32);
    for &byte in text {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        waiting = waiting << length | u64::from(CODES[usize::from(byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((waiting >> count).to_le_bytes()[0]);
        }
    }
    if count > 0 {
        out.push((waiting << (8 - count) | 0xff >> count).to_le_bytes()[0]);
    }
}

/// Appends up to `keep` bytes of what `code` stands for and returns the length of all of it.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>, keep: usize) -> Result<usize, Error> {
    let (mut node, mut length) = (ROOT, 0);
    for nibble in code.iter().flat_map(|octet| [octet >> 4, octet & 15]) {
        let step = &STEPS[usize::from(node)][usize::from(nibble)];
        match step.symbol {
            Symbol::Byte(byte) => {
                if length < keep {
                    out.push(byte);
                }
                length += 1;
            }
            Symbol::Eos => return Err(Error::HuffmanEos),
            Symbol::None => {}
        }
        node = step.next;
    }
    if PADDING[usize::from(node)] {
        Ok(length)
    } else {
        Err(Error::HuffmanPadding)
    }
}

/// What four more bits do to a decoder that stands at an inner node of the code tree.
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    symbol: Symbol,
}

/// The symbol that a step completes; at most one, as the shortest code has five bits.
#[derive(Clone, Copy)]
enum Symbol {
    Byte(u8),
    Eos,
    None,
}

const ROOT: u8 = 0;
const EOS: usize = 256;

/// Length of each symbol's code in bits; the last one is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const CODES: [u32; 257] = codes();

/// Children of the 256 inner nodes: below 256 a node, from 256 on a symbol.
const TREE: [[u16; 2]; 256] = tree();

static STEPS: [[Step; 16]; 256] = steps();

/// At which nodes a string may end: at the root, or after at most seven bits that are all ones.
static PADDING: [bool; 256] = padding();

const LONGEST: u8 = 30;
const LEAF: u16 = 256;

const fn codes() -> [u32; 257] {
    let mut codes = [0; 257];
    let (mut next, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] == length {
                codes[symbol] = next;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    codes
}

const fn tree() -> [[u16; 2]; 256] {
    // Zero stands for "not there yet": the root is nobody's child.
    let mut tree = [[0; 2]; 256];
    let mut nodes = 1;
    let mut symbol = 0;
    while symbol <= EOS {
        let mut node = 0;
        let mut bit = LENGTHS[symbol] - 1;
        while bit > 0 {
            let side = (CODES[symbol] >> bit & 1) as usize;
            if tree[node][side] == 0 {
                tree[node][side] = nodes;
                nodes += 1;
            }
            node = tree[node][side] as usize;
            bit -= 1;
        }
        tree[node][(CODES[symbol] & 1) as usize] = LEAF + symbol as u16;
        symbol += 1;
    }
    // A binary tree with 257 leaves has 256 inner nodes; else the lengths above are mistyped.
    assert!(nodes == 256);
    tree
}

const fn steps() -> [[Step; 16]; 256] {
    let mut steps = [[Step {
        next: ROOT,
        symbol: Symbol::None,
    }; 16]; 256];
    let mut node = 0;
    while node < 256 {
        let mut nibble = 0;
        while nibble < 16 {
            steps[node][nibble] = step(node, nibble);
            nibble += 1;
        }
        node += 1;
    }
    steps
}

const fn step(node: usize, nibble: usize) -> Step {
    let (mut at, mut symbol) = (node, Symbol::None);
    let mut bit = 4;
    while bit > 0 {
        bit -= 1;
        let child = TREE[at][nibble >> bit & 1];
        at = child as usize;
        if child >= LEAF {
            symbol = match child - LEAF {
                256 => Symbol::Eos,
                byte => Symbol::Byte(byte as u8),
            };
            at = ROOT as usize;
        }
    }
    Step {
        next: at as u8,
        symbol,
    }
}

const fn padding() -> [bool; 256] {
    let mut padding = [false; 256];
    let (mut node, mut bits) = (ROOT as usize, 0);
    while bits <= 7 {
        padding[node] = true;
        node = TREE[node][1] as usize;
        bits += 1;
    }
    padding
}

#[cfg(test)]
mod tests;
