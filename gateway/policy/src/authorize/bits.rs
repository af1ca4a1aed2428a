//! Sets of rules: one bit per rule.

/// One bit per rule.
pub(super) type Bits = Box<[u64]>;

/// The positions of set bits, from the lowest.
pub(super) fn ones(bits: &[u64]) -> impl Iterator<Item = usize> {
    bits.iter()
        .enumerate()
        .flat_map(|(at, word)| Ones(*word).map(move |bit| at * 64 + bit))
}

/// The positions of a word's set bits, from the lowest.
pub(super) struct Ones(pub(super) u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let at = self.0.trailing_zeros() as usize;
            self.0 &= self.0 - 1;
            at
        })
    }
}

pub(super) fn no_bits(count: usize) -> Bits {
    vec![0; count.div_ceil(64)].into()
}

pub(super) fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}
