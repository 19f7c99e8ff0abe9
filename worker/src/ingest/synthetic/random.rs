//! Random numbers that are functions of (seed, field, event): any event can be made without those before it.
//!
//! SplitMix64 (Steele, Lea, Flood 2014) as a hash instead of a sequence. No crate: the same seed must give the same
//! bytes for as long as manifests exist, and the crates change their algorithms between versions.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The increment of SplitMix64: 2⁶⁴ divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of randomness for one purpose (a field, the duplicates …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// Makes the source for `purpose`: other fields of the same seed have nothing to do with it, so that adding a
    /// field leaves the rest as it was.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(mix(seed ^ xxh3_64_with_seed(purpose.as_bytes(), GOLDEN)))
    }

    /// Returns the number of event `n`.
    #[inline]
    #[must_use]
    pub fn at(self, n: u64) -> u64 {
        mix(self.0.wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Returns the number that belongs to `bytes`.
    #[inline]
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.0)
    }
}

/// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
#[inline]
#[must_use]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Scales `random` to `0..bound`. The bias is below bound / 2⁶⁴.
#[inline]
#[must_use]
pub fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A probability as a threshold on random numbers: `random < threshold` holds with it. One is held exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u128);

impl Share {
    /// Makes the threshold of `share`, which is brought into 0 to 1.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self((share.clamp(0.0, 1.0) * (1_u128 << 64) as f64) as u128)
    }

    /// Whether `random` falls into the share.
    #[inline]
    #[must_use]
    pub fn holds(self, random: u64) -> bool {
        u128::from(random) < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The reference implementation's first outputs for seed 0 (prng.di.unimi.it/splitmix64.c).
        let zero = Random(0);
        assert_eq!([zero.at(0), zero.at(1)], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn shares_are_kept() {
        let random = Random::new(42, "share");
        let count = |share: f64| (0..100_000).filter(|n| Share::new(share).holds(random.at(*n))).count();
        assert_eq!((count(0.0), count(1.0)), (0, 100_000));
        assert!((count(0.2) as i64 - 20_000).abs() < 500, "{}", count(0.2));
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let random = Random::new(7, "bound");
        let mut seen = [0_u32; 10];
        (0..100_000).for_each(|n| seen[below(random.at(n), 10) as usize] += 1);
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
    }
}
