//! Which letters were replayed: ranges of their numbers, kept in the log beside ingesters' progress.

use std::collections::BTreeMap;

use engine::codec::{Reader, put_u64};

/// Ranges by their start; none touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(BTreeMap<u64, u64>);

impl Marks {
    /// No ingester has this name: theirs begin with a letter.
    pub const NAME: &'static str = "_dead_letters";

    /// Whether the letter is marked.
    pub fn has(&self, id: u64) -> bool {
        self.0.range(..=id).next_back().is_some_and(|(_, end)| id < *end)
    }

    /// Marks a letter.
    pub fn add(&mut self, id: u64) {
        if self.has(id) {
            return;
        }
        let end = self.0.remove(&(id + 1)).unwrap_or(id + 1);
        match self.0.range_mut(..id).next_back() {
            Some((_, before)) if *before == id => *before = end,
            _ => drop(self.0.insert(id, end)),
        }
    }

    /// The bytes that [`Marks::read`] reads: distances, so that thousands of single letters stay small.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = 0;
        for (start, end) in &self.0 {
            put_u64(start - before, &mut out);
            put_u64(end - start, &mut out);
            before = *end;
        }
        out
    }

    /// Reads what [`Marks::write`] wrote.
    pub fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut ranges = BTreeMap::new();
        let mut before = 0;
        while let (Ok(gap), Ok(length)) = (reader.u64(), reader.u64()) {
            let start = before + gap;
            before = start + length;
            ranges.insert(start, before);
        }
        Self(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_grow_together_and_come_back() {
        let mut marks = Marks::default();
        [5, 3, 9, 4, 4, 0].into_iter().for_each(|id| marks.add(id));
        assert_eq!(marks.0, BTreeMap::from([(0, 1), (3, 6), (9, 10)]));
        assert_eq!((0..11).filter(|id| marks.has(*id)).collect::<Vec<_>>(), [0, 3, 4, 5, 9]);
        assert_eq!(Marks::read(&marks.write()), marks);
        assert_eq!(Marks::read(&[]), Marks::default());
    }
}
