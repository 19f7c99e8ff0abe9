//! The clock of a generator: the time of event `n`, as a function of `n` alone.
//!
//! Each start begins a segment: from event `n` on, at that time, one event a period. The segments travel with the
//! committed progress, so that a restart knows when every earlier event was.

use engine::{
    codec::{Corrupt, Reader, put_i64, put_u64},
    time::Millis,
};

use crate::ingest::limits::CLOCK_SEGMENTS_MAX;

/// The clock of a generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds from one event to the next.
    period_ns: u64,
    /// First event and its time, ascending; never empty.
    segments: Vec<(u64, Millis)>,
}

impl Clock {
    /// Makes a clock that shows `start` at event 0 and then `events_per_second`.
    #[must_use]
    pub fn new(start: Millis, events_per_second: f64) -> Self {
        let period_ns = (1e9 / events_per_second).round().clamp(1.0, 1e15) as u64;
        Self { period_ns, segments: vec![(0, start)] }
    }

    /// Returns the time of event `n`.
    #[must_use]
    pub fn at(&self, n: u64) -> Millis {
        let (first, start) = self.segments[self.segment(n)];
        start + (u128::from(n.saturating_sub(first)) * u128::from(self.period_ns) / 1_000_000) as Millis
    }

    /// Appends the times of the events from `n` on until `times` has `count` more.
    pub fn extend(&self, mut n: u64, count: usize, times: &mut Vec<Millis>) {
        let end = n + count as u64;
        while n < end {
            let at = self.segment(n);
            let (first, start) = self.segments[at];
            let until = self.segments.get(at + 1).map_or(end, |next| next.0.min(end));
            let period = u128::from(self.period_ns);
            times.extend(
                (n..until).map(|n| start + (u128::from(n.saturating_sub(first)) * period / 1_000_000) as Millis),
            );
            n = until;
        }
    }

    /// The first event whose time is known.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments[0].0
    }

    /// Returns the first event from `n` on that comes after `now`.
    #[must_use]
    pub fn due(&self, n: u64, now: Millis) -> u64 {
        let (first, start) = self.segments[self.segments.len() - 1];
        let passed = u128::try_from(now - start).map_or(0, |ms| ms * 1_000_000 / u128::from(self.period_ns) + 1);
        (first + passed as u64).max(n)
    }

    /// Shows `now` at event `n` from here on: what was missed while nobody generated is not made up for.
    pub fn restart(&mut self, n: u64, now: Millis) {
        self.segments.retain(|(first, _)| *first < n);
        if self.segments.len() >= CLOCK_SEGMENTS_MAX {
            self.segments.remove(0);
        }
        self.segments.push((n, now));
    }

    fn segment(&self, n: u64) -> usize {
        self.segments.partition_point(|(first, _)| *first <= n).saturating_sub(1)
    }

    /// Appends the segments.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.segments.len() as u64, out);
        for (first, start) in &self.segments {
            put_u64(*first, out);
            put_i64(*start, out);
        }
    }

    /// Reads what [`Clock::put`] wrote.
    ///
    /// # Errors
    /// Where the bytes are no segments.
    pub fn read(&mut self, bytes: &mut Reader<'_>) -> Result<(), Corrupt> {
        let count = bytes.count()?;
        let segments = (0..count).map(|_| Ok((bytes.u64()?, bytes.i64()?))).collect::<Result<Vec<_>, _>>()?;
        if !segments.is_sorted_by(|one, next| one.0 < next.0) || segments.is_empty() {
            return Err(Corrupt("segments of a clock that do not ascend"));
        }
        self.segments = segments;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_over_restarts() {
        let mut clock = Clock::new(1_000, 10.0);
        assert_eq!((clock.at(0), clock.at(7)), (1_000, 1_700));
        clock.restart(8, 60_000);
        clock.restart(20, 90_000);
        assert_eq!((clock.at(7), clock.at(8), clock.at(9), clock.at(20)), (1_700, 60_000, 60_100, 90_000));
        let mut times = Vec::new();
        clock.extend(6, 4, &mut times);
        assert_eq!(times, [1_600, 1_700, 60_000, 60_100]);
        let mut bytes = Vec::new();
        clock.put(&mut bytes);
        let mut read = Clock::new(0, 10.0);
        read.read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(read, clock);
    }

    #[test]
    fn an_event_is_due_when_its_time_has_come() {
        let clock = Clock::new(1_000, 10.0);
        assert_eq!((clock.due(0, 999), clock.due(0, 1_000), clock.due(0, 1_099), clock.due(0, 1_100)), (0, 1, 1, 2));
        assert_eq!(clock.due(5, 1_000), 5);
    }

    #[test]
    fn only_so_many_restarts_are_remembered() {
        let mut clock = Clock::new(0, 1.0);
        (1..=2 * CLOCK_SEGMENTS_MAX as u64).for_each(|n| clock.restart(n, n as Millis * 5_000));
        assert_eq!(clock.first(), CLOCK_SEGMENTS_MAX as u64 + 1);
    }
}
