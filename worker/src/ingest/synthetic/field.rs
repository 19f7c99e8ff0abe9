//! What a field of a synthetic event is made from, after checking: indices instead of names.

use engine::{
    column::Column,
    value::{Type, Value},
};

use super::{
    pattern::Pattern,
    random::{Random, Share, below, mix},
};
use crate::ingest::expressions::Expression;

/// A column of synthetic events.
#[derive(Debug)]
pub struct Field {
    /// What users call it.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Its randomness.
    pub random: Random,
    /// The column whose value decides instead of the event's number: equal values, equal fields.
    pub fixed_per: Option<usize>,
    /// What it is made from.
    pub draw: Draw,
}

/// What a field is made from.
#[derive(Debug)]
pub enum Draw {
    /// A version 4 UUID.
    Uuid,
    /// The number of the event, from `start` on; a whole number without a pattern.
    Sequence {
        /// The first.
        start: u64,
        /// How it is written.
        pattern: Option<Pattern>,
    },
    /// One of many visitors, a few of whom are there at a time.
    Visitor(Visitors),
    /// One of many numbered texts.
    Numbered(Numbered),
    /// One of a few constants.
    Pick(Pick),
    /// The time of the event, less up to so many milliseconds.
    Now {
        /// How far it is out of order.
        jitter_ms: u64,
    },
    /// A decimal: so many steps above the least.
    Decimal {
        /// The least, in units of 10⁻⁹.
        min: i128,
        /// How many values there are.
        count: u64,
        /// From one value to the next, in units of 10⁻⁹.
        step: i128,
    },
    /// A whole number: so many values from the least on.
    Integer {
        /// The least.
        min: i64,
        /// How many values there are; 0 means all of them.
        count: u64,
    },
    /// Always this.
    Constant(Value),
    /// Text around other columns.
    Template(Vec<Piece>),
    /// An expression over other columns.
    Expression(Expression),
    /// A new number whenever the key has been idle.
    Session {
        /// The column of the key.
        key: usize,
        /// How long.
        idle_ms: i64,
        /// How the number is written.
        pattern: Pattern,
    },
    /// The key of some row of a lookup.
    LookupKey {
        /// The keys, by row.
        keys: Column,
    },
    /// What that row has in another column.
    LookupValue {
        /// The column that picked the row.
        picked_by: usize,
        /// The values, by row.
        values: Column,
    },
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it stands.
    Text(String),
    /// The value of a column.
    Column(usize),
}

/// Texts with a number from one on.
#[derive(Debug)]
pub struct Numbered {
    /// How the number is written.
    pub pattern: Pattern,
    /// How many there are.
    pub count: u64,
    /// Numbers with a share of their own, ascending, and below which random number each is chosen.
    pub shares: Vec<(u64, Share)>,
    /// All of them written out beforehand, if they are not too many.
    pub kept: Option<Column>,
}

impl Numbered {
    /// Returns the number that `random` chooses.
    #[inline]
    #[must_use]
    pub fn choose(&self, random: u64) -> u64 {
        if self.shares.is_empty() {
            return 1 + below(random, self.count);
        }
        if let Some((number, _)) = self.shares.iter().find(|(_, below)| below.holds(random)) {
            return *number;
        }
        // The others share evenly: skip those that have their own.
        let others = self.count - self.shares.len() as u64;
        let mut number = 1 + below(mix(random), others);
        for (own, _) in &self.shares {
            number += u64::from(number >= *own);
        }
        number
    }
}

/// Visitors who come, look at several pages and go, so that a realistic load has visits.
#[derive(Debug)]
pub struct Visitors {
    /// How their number is written.
    pub pattern: Pattern,
    /// How many there are.
    pub count: u64,
    /// How many are there at a time.
    pub places: u64,
    /// After so many events of everybody, the visitor at a place is another.
    pub stay: u64,
}

impl Visitors {
    /// Returns the visitor of event `n`, whose number is `draw`.
    #[must_use]
    pub fn choose(&self, random: Random, n: u64, draw: u64) -> u64 {
        let place = below(draw, self.places);
        // Every place changes at its own time.
        let visit = (n + below(random.at(place), self.stay)) / self.stay;
        1 + below(random.of(&[place.to_le_bytes(), visit.to_le_bytes()].concat()), self.count)
    }
}

/// Constants and how likely each is.
#[derive(Debug)]
pub struct Pick {
    /// All constants, of all cases.
    pub values: Column,
    /// Tried in order; the first that holds decides.
    pub cases: Vec<(Expression, Weights)>,
    /// Where none holds.
    pub otherwise: Weights,
}

impl Pick {
    /// Returns the constant that each of `draws` chooses.
    pub fn choose(&mut self, draws: &[u64], columns: &[Column], arena: &mut Vec<u8>) -> Vec<u32> {
        let mut chosen: Vec<u32> = draws.iter().map(|draw| self.otherwise.choose(*draw)).collect();
        for (when, weights) in self.cases.iter_mut().rev() {
            let holds = when.holds(columns, draws.len(), arena);
            for ((chosen, draw), _) in chosen.iter_mut().zip(draws).zip(holds).filter(|(_, holds)| **holds) {
                *chosen = weights.choose(*draw);
            }
        }
        chosen
    }
}

/// How likely each constant of a run of them is.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The first constant.
    pub first: u32,
    /// Below which random number each is chosen, as a share; the last is chosen otherwise.
    pub below: Vec<Share>,
}

impl Weights {
    /// Makes weights; they are positive in sum.
    #[must_use]
    pub fn new(first: u32, weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let below = weights.iter().map(|weight| {
            sum += weight;
            Share::new(sum / total)
        });
        Self { first, below: below.collect() }
    }

    /// Returns the constant that `random` chooses.
    #[inline]
    #[must_use]
    pub fn choose(&self, random: u64) -> u32 {
        let last = self.below.len().saturating_sub(1);
        self.first + self.below.iter().position(|share| share.holds(random)).unwrap_or(last) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_ones_own_is_kept_and_the_rest_is_even() {
        let pattern = Pattern::parse("p%d").unwrap();
        let numbered =
            Numbered { pattern, count: 10, shares: vec![(4, Share::new(0.2)), (10, Share::new(0.5))], kept: None };
        let mut seen = [0_i32; 11];
        let random = Random::new(1, "x");
        (0..100_000).for_each(|n| seen[numbered.choose(random.at(n)) as usize] += 1);
        let near = |seen: i32, expected: i32| (seen - expected).abs() < 600;
        assert!(near(seen[4], 20_000) && near(seen[10], 30_000), "{seen:?}");
        assert!(seen[0] == 0 && [1, 2, 3, 5, 6, 7, 8, 9].iter().all(|at| near(seen[*at], 6_250)), "{seen:?}");
    }

    #[test]
    fn weights_are_kept() {
        let weights = Weights::new(5, &[70.0, 0.0, 20.0, 10.0]);
        let mut seen = [0_i32; 9];
        let random = Random::new(1, "x");
        (0..100_000).for_each(|n| seen[weights.choose(random.at(n)) as usize] += 1);
        assert_eq!((seen[4], seen[6]), (0, 0));
        assert!((seen[5] - 70_000).abs() < 600 && (seen[7] - 20_000).abs() < 600, "{seen:?}");
    }
}
