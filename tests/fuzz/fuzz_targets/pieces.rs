//! One input in several pieces, decided by the input alone, so that a finding stays one when it is run again.

/// Cuts `input` at places that depend on all of its bytes; mostly short pieces, some empty ones.
pub fn pieces(input: &[u8]) -> Vec<&[u8]> {
    // FNV-1a, then a linear congruence: any mix will do.
    let mut state = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let length = match state >> 60 {
            0 => 0,
            1..12 => (state >> 32) as usize % 24,
            _ => (state >> 32) as usize % 600,
        };
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
