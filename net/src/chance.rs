//! Numbers that spread tries in time and tell transactions apart; nothing secret hangs on them.

/// xorshift64*.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed, an odd one: from zero nothing follows.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number; its upper half is the better one.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
