//! DDSketch: quantiles with a relative error of at most 1 %, from counts of values in exponential buckets
//! (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", 2019).
//!
//! A sketch is a function of the *multiset* of values: order and the way it was cut into parts do not show, not even
//! in the bytes of [`DdSketch::encode`]. That is why it is here and t-digest is not.
//!
//! Bucket numbers come from the leading bits of the integer behind a [`Decimal`] and a cubic in place of the
//! logarithm (as in the authors' `CubicallyInterpolatedMapping`): sums and products only, which IEEE 754 fixes to the
//! last bit, where a logarithm may differ between libraries. Bucket bounds are found by asking the same function.

use crate::{
    codec::{Corrupt, Reader, put_i128, put_u64},
    decimal::Decimal,
};

/// Most buckets of each sign. Where more would be needed, the buckets of the smallest magnitudes become one: values
/// there are then reported as too large in magnitude (but never larger than the smallest bucket that is kept), all
/// others keep their 1 %. 2,048 buckets in a row span a factor of 10¹⁷, so that this takes values from billionths to
/// billions in one group.
const BUCKETS_MAX: usize = 2_048;

/// Buckets for each unit of the cubic. A bucket then spans a factor of at most e^(10 / (7 · 35.1)), so that its
/// harmonic middle is within 0.998 % of all its values; the rest of the 1 % is for rounding to six digits.
const BUCKETS_PER_OCTAVE: f64 = 35.1;

/// Significant digits of a quantile.
const DIGITS: u32 = 6;

/// A multiset of decimals, sketched. The extremes are kept exactly, so that a sketch of one value knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DdSketch {
    negative: Buckets,
    zero: u64,
    positive: Buckets,
    /// Smallest and largest value; `None` exactly while there are none.
    extremes: Option<(Decimal, Decimal)>,
}

/// Counts by magnitude: parallel vectors, by ascending bucket, no count zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Buckets {
    numbers: Vec<u16>,
    counts: Vec<u64>,
}

impl DdSketch {
    /// Makes an empty sketch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was inserted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extremes.is_none()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.negative.clear();
        self.zero = 0;
        self.positive.clear();
        self.extremes = None;
    }

    /// How many values were inserted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.negative.total().saturating_add(self.zero).saturating_add(self.positive.total())
    }

    /// The memory behind the sketch, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let side = |side: &Buckets| side.numbers.capacity() * 2 + side.counts.capacity() * 8;
        side(&self.negative) + side(&self.positive)
    }

    /// Adds a value.
    #[inline]
    pub fn insert(&mut self, value: Decimal) {
        let magnitude = value.0.unsigned_abs();
        match value.0.signum() {
            0 => self.zero = self.zero.saturating_add(1),
            1 => self.positive.add(bucket_of(magnitude), 1),
            _ => self.negative.add(bucket_of(magnitude), 1),
        }
        self.widen(value, value);
    }

    /// Adds everything in `other`.
    pub fn merge(&mut self, other: &Self) {
        self.negative.merge(&other.negative);
        self.zero = self.zero.saturating_add(other.zero);
        self.positive.merge(&other.positive);
        if let Some((low, high)) = other.extremes {
            self.widen(low, high);
        }
    }

    /// Returns the value at `ppm` millionths of the way through the sorted values (the one with ⌊ppm · (count − 1)⌋
    /// before it), within 1 % (or 10⁻⁹) and with six significant digits; `None` if there are none. The first and
    /// the last value are exact.
    #[must_use]
    pub fn quantile(&self, ppm: u32) -> Option<Decimal> {
        let (low, high) = self.extremes?;
        let last = self.count().saturating_sub(1);
        let rank = (u128::from(last) * u128::from(ppm.min(1_000_000)) / 1_000_000) as u64;
        match rank {
            0 => Some(low),
            rank if rank == last => Some(high),
            rank => Some(self.at(rank).clamp(low, high)),
        }
    }

    /// Returns the middle of the bucket that holds the value with `rank` others before it.
    fn at(&self, rank: u64) -> Decimal {
        let below = self.negative.total();
        let signed = match rank.checked_sub(below) {
            // Negative buckets ascend by magnitude: count from the other end.
            None => -(self.negative.at(below - 1 - rank) as i128),
            Some(rank) if rank < self.zero => 0,
            Some(rank) => self.positive.at(rank - self.zero) as i128,
        };
        Decimal(signed)
    }

    fn widen(&mut self, low: Decimal, high: Decimal) {
        self.extremes = Some(match self.extremes {
            None => (low, high),
            Some((lowest, highest)) => (lowest.min(low), highest.max(high)),
        });
    }

    /// Appends the sketch. Equal multisets give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.negative.encode(out);
        put_u64(self.zero, out);
        self.positive.encode(out);
        if let Some((low, high)) = self.extremes {
            put_i128(low.0, out);
            put_i128(high.0, out);
        }
    }

    /// Reads what [`DdSketch::encode`] wrote.
    ///
    /// # Errors
    /// Where the bytes are not a sketch.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let negative = Buckets::decode(reader)?;
        let zero = reader.u64()?;
        let positive = Buckets::decode(reader)?;
        let mut sketch = Self { negative, zero, positive, extremes: None };
        if sketch.count() > 0 {
            let (low, high) = (Decimal(reader.i128()?), Decimal(reader.i128()?));
            if low > high {
                return Err(Corrupt("smallest above largest"));
            }
            sketch.extremes = Some((low, high));
        }
        Ok(sketch)
    }
}

impl Buckets {
    fn clear(&mut self) {
        self.numbers.clear();
        self.counts.clear();
    }

    fn total(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Whatever the order of additions, what is left are the [`BUCKETS_MAX`] largest buckets that were ever hit, and
    /// the lowest of them holds everything below it too.
    fn add(&mut self, number: u16, count: u64) {
        match self.numbers.binary_search(&number) {
            Ok(at) => self.counts[at] = self.counts[at].saturating_add(count),
            Err(0) if self.numbers.len() == BUCKETS_MAX => self.counts[0] = self.counts[0].saturating_add(count),
            Err(at) => {
                self.numbers.insert(at, number);
                self.counts.insert(at, count);
                if self.numbers.len() > BUCKETS_MAX {
                    self.collapse_lowest();
                }
            }
        }
    }

    fn collapse_lowest(&mut self) {
        self.numbers.remove(0);
        let lowest = self.counts.remove(0);
        self.counts[0] = self.counts[0].saturating_add(lowest);
    }

    fn merge(&mut self, other: &Self) {
        for (number, count) in other.numbers.iter().zip(&other.counts) {
            self.add(*number, *count);
        }
    }

    /// Returns the middle of the bucket of the value with `rank` smaller ones before it, or of the last bucket.
    fn at(&self, rank: u64) -> u128 {
        let mut seen = 0_u64;
        let reached = self.numbers.iter().zip(&self.counts).find(|(_, count)| {
            seen = seen.saturating_add(**count);
            rank < seen
        });
        reached.map(|(number, _)| number).or(self.numbers.last()).map_or(0, |number| middle(*number))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(self.numbers.len() as u64, out);
        let mut next = 0;
        for (number, count) in self.numbers.iter().zip(&self.counts) {
            put_u64(u64::from(number - next), out);
            put_u64(*count, out);
            next = number + 1;
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let len = reader.count()?;
        if len > BUCKETS_MAX {
            return Err(Corrupt("too many buckets"));
        }
        let mut side = Self { numbers: Vec::with_capacity(len), counts: Vec::with_capacity(len) };
        let largest = u64::from(bucket_of(u128::MAX));
        let mut next = 0_u64;
        for _ in 0..len {
            let number = next.checked_add(reader.u64()?).filter(|number| *number <= largest);
            let number = number.ok_or(Corrupt("bucket out of range"))?;
            let count = reader.u64()?;
            if count == 0 {
                return Err(Corrupt("empty bucket"));
            }
            side.numbers.push(number as u16);
            side.counts.push(count);
            next = number + 1;
        }
        Ok(side)
    }
}

/// Returns the bucket of a magnitude, which is not zero. It never falls as the magnitude grows.
#[inline]
fn bucket_of(magnitude: u128) -> u16 {
    let exponent = 127 - magnitude.leading_zeros();
    // The 52 bits behind the leading one, as a fraction of it.
    let bits = if exponent <= 52 { magnitude << (52 - exponent) } else { magnitude >> (exponent - 52) };
    let fraction = (bits as u64 & ((1 << 52) - 1)) as f64 / (1_u64 << 52) as f64;
    let cubic = ((6.0 / 35.0 * fraction - 3.0 / 5.0) * fraction + 10.0 / 7.0) * fraction;
    ((f64::from(exponent) + cubic) * BUCKETS_PER_OCTAVE) as u16
}

/// Returns the harmonic middle of a bucket's values, the one with the smallest relative error, to six digits.
fn middle(bucket: u16) -> u128 {
    let low = smallest(bucket);
    let high = (smallest(bucket + 1) - 1).max(low);
    // Shifted so that the product stays within 128 bits; the sum keeps 60 bits of precision.
    let shift = (128 - high.leading_zeros()).saturating_sub(60);
    let (low_part, high_part) = (low >> shift, high >> shift);
    round_digits((2 * low_part * high_part / (low_part + high_part)) << shift)
}

/// Returns the smallest magnitude of a bucket at or above `bucket`.
fn smallest(bucket: u16) -> u128 {
    let (mut low, mut high) = (1_u128, 1_u128 << 127);
    while low < high {
        let half = low + (high - low) / 2;
        if bucket_of(half) >= bucket {
            high = half;
        } else {
            low = half + 1;
        }
    }
    low
}

/// Rounds to [`DIGITS`] significant digits, half up.
fn round_digits(magnitude: u128) -> u128 {
    let digits = magnitude.checked_ilog10().unwrap_or(0) + 1;
    let unit = 10_u128.pow(digits.saturating_sub(DIGITS));
    (magnitude + unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn sketch(values: &[Decimal]) -> DdSketch {
        let mut sketch = DdSketch::new();
        values.iter().for_each(|value| sketch.insert(*value));
        sketch
    }

    fn encoded(sketch: &DdSketch) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.encode(&mut out);
        out
    }

    fn within_one_percent(found: Decimal, exact: Decimal) -> bool {
        (found.0 - exact.0).unsigned_abs() <= exact.0.unsigned_abs() / 100 + 1
    }

    #[test]
    fn quantiles_read_like_prices() {
        let prices: Vec<Decimal> = (1..=1_000).map(Decimal::from_int).collect();
        let sketch = sketch(&prices);
        let check = |ppm, want: &str| assert_eq!(sketch.quantile(ppm).unwrap().to_string(), want, "{ppm}");
        check(0, "1");
        check(500_000, "504.483");
        check(950_000, "948.715");
        check(1_000_000, "1000");
        assert_eq!(DdSketch::new().quantile(500_000), None);
    }

    #[test]
    fn more_buckets_than_the_bound_lose_the_smallest_magnitudes_only() {
        // Every bucket there is, in two orders.
        let mut values: Vec<Decimal> = (0..35 * 126).map(|at| Decimal(smallest(at) as i128)).collect();
        let forth = sketch(&values);
        values.reverse();
        assert_eq!(forth, sketch(&values));
        assert_eq!(forth.positive.numbers.len(), BUCKETS_MAX);
        assert_eq!(forth.count(), values.len() as u64);
        let largest = values.iter().max().unwrap();
        assert!(within_one_percent(forth.quantile(999_999).unwrap(), *largest));
        assert_eq!(forth.quantile(1_000), forth.quantile(300_000));
    }

    /// Values of every size and both signs.
    fn any_values() -> impl Strategy<Value = Vec<Decimal>> {
        let value = (any::<i128>(), 1_u32..128).prop_map(|(value, shift)| Decimal(value >> shift));
        let price = (-5_000_i128..50_000).prop_map(|cents| Decimal(cents * 10_000_000));
        prop_oneof![vec(value, 1..300), vec(price, 1..300)]
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent(mut values in any_values(), ppm in 0_u32..=1_000_000) {
            let sketch = sketch(&values);
            values.sort_unstable();
            let exact = values[(values.len() - 1) * ppm as usize / 1_000_000];
            let found = sketch.quantile(ppm).unwrap();
            prop_assert!(within_one_percent(found, exact), "{found} for {exact}");
        }

        #[test]
        fn a_sketch_is_a_function_of_the_multiset(left in any_values(), right in any_values()) {
            let all: Vec<Decimal> = left.iter().chain(&right).copied().collect();
            let backwards: Vec<Decimal> = all.iter().rev().copied().collect();
            let whole = sketch(&all);
            prop_assert_eq!(whole.count(), all.len() as u64);
            prop_assert_eq!(encoded(&sketch(&backwards)), encoded(&whole));
            let mut merged = sketch(&left);
            merged.merge(&sketch(&right));
            prop_assert_eq!(&merged, &whole);
            let bytes = encoded(&whole);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(DdSketch::decode(&mut reader), Ok(whole));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn buckets_ascend(left in any::<u128>(), right in any::<u128>(), shift in 0_u32..128) {
            let (left, right) = ((left >> shift).max(1), (right >> shift).max(1));
            prop_assert!(bucket_of(left.min(right)) <= bucket_of(left.max(right)));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(values in any_values(), at: Index, byte: u8, cut: Index) {
            let mut bytes = encoded(&sketch(&values));
            let place = at.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Ok(sketch) = DdSketch::decode(&mut Reader::new(&bytes)) {
                let _ = sketch.quantile(500_000);
                let _ = sketch.quantile(1_000_000);
                let again = encoded(&sketch);
                prop_assert_eq!(DdSketch::decode(&mut Reader::new(&again)), Ok(sketch));
            }
        }
    }
}
