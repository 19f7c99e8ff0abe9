//! Watermarks: of one partition, and merged over the origins of a channel.

use crate::{
    codec::{Corrupt, Reader, put_i64},
    time::{BEGINNING_OF_TIME, END_OF_TIME, Millis},
};

/// The watermark of one stream in one source partition: `max(event time) − out-of-orderness`. Where several divide what they
/// write among them, it is not beyond what all of them have written, as their records say ([`crate::batch::Bound`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    out_of_orderness_ms: Millis,
    /// Latest event time, once there is one.
    latest: Option<Millis>,
    /// Arrival of the event that brought `latest`.
    latest_arrival: Millis,
    /// Up to where all have written, and the arrival of the record that said so, once one does.
    bound: Option<(Millis, Millis)>,
    finished: bool,
}

impl PartitionWatermark {
    /// Starts before every event.
    #[must_use]
    pub fn new(out_of_orderness_ms: Millis) -> Self {
        Self { out_of_orderness_ms, latest: None, latest_arrival: BEGINNING_OF_TIME, bound: None, finished: false }
    }

    /// The watermark now. Events at or after it are on time.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Millis {
        match self.latest {
            _ if self.finished => END_OF_TIME,
            Some(latest) => match self.bound {
                None => latest - self.out_of_orderness_ms,
                Some((low, _)) => latest.min(low).saturating_sub(self.out_of_orderness_ms),
            },
            None => BEGINNING_OF_TIME,
        }
    }

    /// Whether records have said how far all are that write.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }

    /// Hears from a record how far all are that write. What would take the watermark back is not heard: others have moved it.
    pub fn bound(&mut self, low: Millis, arrival: Millis) {
        match self.bound {
            Some((known, _)) => self.bound = Some((low.max(known), arrival)),
            None if self.latest.is_none() || low.saturating_sub(self.out_of_orderness_ms) >= self.now() => {
                self.bound = Some((low, arrival));
            }
            None => {}
        }
    }

    /// Forgets that if nobody has said it anew for longer than `idle_after_ms`, at the arrival of another record: those who
    /// divided something among them have ended.
    pub fn forget_bound(&mut self, arrival: Millis, idle_after_ms: Millis) {
        self.bound = self.bound.filter(|(_, said)| arrival - said <= idle_after_ms);
    }

    /// Sees a valid event.
    #[inline]
    pub fn see(&mut self, time: Millis, arrival: Millis) {
        if self.latest.is_none_or(|latest| time > latest) {
            self.latest = Some(time);
            self.latest_arrival = arrival;
        }
    }

    /// Ends the source: the watermark is later than every event.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What an idle mark at the arrival clock `now` may claim, and whether the partition is excused beyond that.
    ///
    /// A stream whose newest event came in time is live, so nothing older than `now − out-of-orderness` is outstanding:
    /// that claim says all there is to say, and it lasts no longer than it is true. A partition that has shown nothing
    /// claims the same. Any other keeps its watermark, and must be excused if the others are to go on. That somebody was behind
    /// no longer counts: nobody writes, and windows that all have filled should close.
    #[must_use]
    pub fn idle_claim(&self, now: Millis) -> (Millis, bool) {
        match self.latest {
            Some(latest) if self.latest_arrival - latest > self.out_of_orderness_ms => {
                (Self { bound: None, ..*self }.now(), true)
            }
            _ => (self.now().max(now - self.out_of_orderness_ms), false),
        }
    }

    /// Appends the state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let flags = [self.latest.is_some(), self.finished, self.bound.is_some()];
        out.push(flags.iter().rev().fold(0, |flags, flag| flags << 1 | u8::from(*flag)));
        put_i64(self.latest.unwrap_or_default(), out);
        put_i64(self.latest_arrival, out);
        if let Some((low, said)) = self.bound {
            put_i64(low, out);
            put_i64(said, out);
        }
    }

    /// Reads what [`PartitionWatermark::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn restore(out_of_orderness_ms: Millis, reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let flags = reader.u8()?;
        let latest = reader.i64()?;
        let latest_arrival = reader.i64()?;
        let latest = (flags & 1 != 0).then_some(latest);
        let bound = if flags & 4 != 0 { Some((reader.i64()?, reader.i64()?)) } else { None };
        Ok(Self { out_of_orderness_ms, latest, latest_arrival, bound, finished: flags & 2 != 0 })
    }
}

/// The merged watermark of a channel: the minimum over its origins, idle ones excused. It never goes back.
#[derive(Clone, Debug)]
pub struct MergedWatermark {
    origins: Vec<(Millis, bool)>,
    merged: Millis,
}

impl MergedWatermark {
    /// Makes a channel of `origins` origins, none of which has shown anything.
    #[must_use]
    pub fn new(origins: usize) -> Self {
        Self { origins: vec![(BEGINNING_OF_TIME, false); origins], merged: BEGINNING_OF_TIME }
    }

    /// The merged watermark.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.merged
    }

    /// Hears from an origin. What came with records replaces an earlier claim, which said
    /// that there would be none; a heartbeat only adds to it, because an older one may come once more.
    pub fn hear(&mut self, origin: usize, watermark: Millis, idle: bool, with_records: bool) {
        let heard = &mut self.origins[origin];
        let claimed = if with_records { BEGINNING_OF_TIME } else { heard.0 };
        *heard = (claimed.max(watermark), idle);
        let awake = self.origins.iter().filter(|(_, idle)| !idle).map(|(watermark, _)| *watermark).min();
        // When all are idle nothing is outstanding anywhere, so the furthest claim holds.
        let furthest = || self.origins.iter().map(|(watermark, _)| *watermark).max();
        self.merged = self.merged.max(awake.or_else(furthest).unwrap_or(BEGINNING_OF_TIME));
    }

    /// The claim of an origin, and whether it is idle.
    #[must_use]
    pub fn claim(&self, origin: usize) -> (Millis, bool) {
        self.origins[origin]
    }

    /// Makes room for one more origin before place `at`. It has shown nothing, and holds the others back until it does.
    pub fn insert(&mut self, at: usize) {
        self.origins.insert(at, (BEGINNING_OF_TIME, false));
    }

    /// Sets what an origin had claimed, and whether it was idle. Nothing follows from it before [`MergedWatermark::resume`].
    pub fn claimed(&mut self, origin: usize, claim: (Millis, bool)) {
        self.origins[origin] = claim;
    }

    /// The same channel as it was, merged up to `merged`. An origin that was not there then has shown nothing, and holds
    /// the others back until it does.
    pub const fn resume(&mut self, merged: Millis) {
        self.merged = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_awake_origin_decides() {
        let mut merged = MergedWatermark::new(2);
        merged.hear(0, 100, false, true);
        assert_eq!(merged.now(), BEGINNING_OF_TIME, "the other has shown nothing");
        merged.hear(1, 50, false, true);
        assert_eq!(merged.now(), 50);
        merged.hear(1, 50, true, false);
        assert_eq!(merged.now(), 100, "an idle one is excused");
        merged.hear(1, 60, false, true);
        assert_eq!(merged.now(), 100, "never goes back");
        merged.hear(0, 100, true, false);
        merged.hear(1, 300, true, false);
        assert_eq!(merged.now(), 300, "all idle: the furthest claim");
    }

    #[test]
    fn a_claim_ends_with_the_next_record() {
        let mut merged = MergedWatermark::new(2);
        merged.hear(0, 1_000, false, false);
        merged.hear(1, 100, false, true);
        assert_eq!(merged.now(), 100, "an empty partition claimed the clock");
        merged.hear(0, 120, false, true);
        merged.hear(1, 500, false, true);
        assert_eq!(merged.now(), 120, "and holds back once it has old events after all");
        merged.hear(0, 90, false, false);
        assert_eq!(merged.now(), 120, "an old heartbeat says nothing new");
    }

    #[test]
    fn nobody_is_late_while_somebody_who_writes_is_behind() {
        // Long after the events.
        const ARRIVAL: Millis = 1_000_000;
        let mut watermark = PartitionWatermark::new(10);
        watermark.bound(BEGINNING_OF_TIME, ARRIVAL);
        watermark.see(5_000, ARRIVAL + 1);
        assert_eq!(watermark.now(), BEGINNING_OF_TIME, "nobody knows how far the others are");
        watermark.bound(1_000, ARRIVAL + 2);
        assert_eq!(watermark.now(), 990);
        watermark.bound(BEGINNING_OF_TIME, ARRIVAL + 3);
        assert_eq!(watermark.now(), 990, "whoever has just begun knows less, and takes nothing back");
        let mut bytes = Vec::new();
        watermark.snapshot(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(PartitionWatermark::restore(10, &mut reader), Ok(watermark));
        assert!(reader.is_empty());
        watermark.bound(9_000, ARRIVAL + 4);
        assert_eq!(watermark.now(), 4_990, "the events themselves bound it too");
        watermark.bound(2_000, ARRIVAL + 5);
        watermark.see(20_000, ARRIVAL + 105);
        watermark.forget_bound(ARRIVAL + 105, 100);
        assert_eq!(watermark.now(), 8_990);
        assert_eq!(watermark.idle_claim(ARRIVAL + 1_000), (19_990, true), "nobody writes any more");
        watermark.forget_bound(ARRIVAL + 106, 100);
        assert_eq!(watermark.now(), 19_990, "only others do");
        watermark.bound(BEGINNING_OF_TIME, ARRIVAL + 107);
        watermark.bound(19_999, ARRIVAL + 107);
        assert_eq!((watermark.now(), watermark.is_bounded()), (19_990, false), "it never goes back");
        watermark.bound(20_000, ARRIVAL + 108);
        watermark.see(30_000, ARRIVAL + 108);
        assert_eq!(watermark.now(), 19_990);
    }

    #[test]
    fn only_a_live_stream_claims_time_by_the_clock() {
        let mut live = PartitionWatermark::new(10);
        assert_eq!(live.idle_claim(1_000), (990, false));
        live.see(100, 105);
        assert_eq!(live.idle_claim(1_000), (990, false), "and no more, should its reader stop");
        let mut historical = PartitionWatermark::new(10);
        historical.see(100, 900);
        assert_eq!(historical.idle_claim(1_000), (90, true));
    }
}
