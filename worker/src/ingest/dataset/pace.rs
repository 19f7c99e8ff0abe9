//! When the rows of a block may go.

use std::time::{Duration, Instant};

use engine::{limits::FUTURE_MS_MAX, time::Millis};

use crate::{
    clock,
    ingest::{
        control::Control,
        limits::{PACE_GATHER, PACE_STEP},
    },
};

/// How fast a dataset is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the log takes it.
    Free,
    /// So many events a second.
    Rate(f64),
    /// As the events' own times say, so many times faster.
    EventTime {
        /// 1 is real time.
        speed: f64,
    },
}

/// Keeps the pace.
#[derive(Debug)]
pub struct Pacer {
    pace: Pace,
    started: Instant,
    sent: u64,
    /// When rows went last.
    went: Option<Instant>,
    /// The first event's time, and when it went.
    first: Option<(Millis, Instant)>,
}

impl Pacer {
    /// Starts now.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, started: Instant::now(), sent: 0, went: None, first: None }
    }

    /// Whether the times of the rows must be known.
    #[must_use]
    pub fn wants_times(&self) -> bool {
        matches!(self.pace, Pace::EventTime { .. })
    }

    /// Begins a new pass: its first event goes now.
    pub fn rewind(&mut self) {
        self.first = None;
    }

    /// Waits until some of the `rows` rows left may go and returns how many, or `None` when asked to stop. `times` has
    /// the time of each, if they are wanted.
    pub fn next(&mut self, rows: usize, times: &[Option<Millis>], control: &Control) -> Option<usize> {
        loop {
            let now = Instant::now();
            let (ready, wait) = match self.pace {
                Pace::Free => (rows, Duration::ZERO),
                Pace::Rate(rate) => self.by_rate(rate, rows, now),
                Pace::EventTime { speed } => self.by_time(speed, times, now),
            };
            let gather = self.went.map_or(Duration::ZERO, |went| PACE_GATHER.saturating_sub(now - went));
            if ready > 0 && (ready == rows || gather.is_zero()) {
                self.sent += ready as u64;
                self.went = Some(now);
                return (!control.stopped()).then_some(ready);
            }
            if control.stopped_before(now + wait.min(PACE_STEP).max(gather)) {
                return None;
            }
        }
    }

    fn by_rate(&self, rate: f64, rows: usize, now: Instant) -> (usize, Duration) {
        let due = ((now - self.started).as_secs_f64() * rate) as u64 + 1;
        let ready = due.saturating_sub(self.sent).min(rows as u64) as usize;
        (ready, Duration::from_secs_f64((1.0 / rate).clamp(0.002, 1.0)))
    }

    fn by_time(&mut self, speed: f64, times: &[Option<Millis>], now: Instant) -> (usize, Duration) {
        // Those that no stream takes are not waited for: one of them may lie decades away.
        let valid = 0..=clock::now().saturating_add(FUTURE_MS_MAX);
        let Some(first) = times.iter().flatten().find(|time| valid.contains(time)) else {
            return (times.len(), Duration::ZERO);
        };
        let (zero, since) = *self.first.get_or_insert((*first, now));
        let passed = (now - since).as_secs_f64() * 1_000.0 * speed;
        let early =
            |time: &Option<Millis>| time.is_some_and(|time| valid.contains(&time) && (time - zero) as f64 > passed);
        let ready = times.iter().position(early).unwrap_or(times.len());
        let wait =
            times.get(ready).copied().flatten().map_or(0.0, |time| ((time - zero) as f64 - passed) / speed / 1_000.0);
        (ready, Duration::try_from_secs_f64(wait).unwrap_or(PACE_STEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept() {
        let (mut pacer, control) = (Pacer::new(Pace::Rate(1_000.0)), Control::default());
        let started = Instant::now();
        let mut sent = 0;
        while sent < 200 {
            sent += pacer.next(200 - sent, &[], &control).unwrap();
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn times_of_events_are_kept_and_sped_up() {
        let (mut pacer, control) = (Pacer::new(Pace::EventTime { speed: 100.0 }), Control::default());
        let times = [Some(5_000), None, Some(5_000), Some(15_000)];
        let started = Instant::now();
        assert_eq!(pacer.next(4, &times, &control), Some(3));
        assert_eq!(pacer.next(1, &times[3..], &control), Some(1));
        assert!(started.elapsed() >= Duration::from_millis(99), "{:?}", started.elapsed());
    }

    #[test]
    fn a_time_that_no_stream_takes_holds_nobody_up() {
        let (mut pacer, control) = (Pacer::new(Pace::EventTime { speed: 1.0 }), Control::default());
        let times = [Some(-1), Some(5_000), Some(4_102_444_800_000_000), Some(5_000)];
        assert_eq!(pacer.next(4, &times, &control), Some(4));
    }

    #[test]
    fn waiting_ends_when_asked() {
        let (mut pacer, control) = (Pacer::new(Pace::EventTime { speed: 0.001 }), Control::default());
        assert_eq!(pacer.next(2, &[Some(0), Some(1_000_000)], &control), Some(1));
        control.stop();
        assert_eq!(pacer.next(1, &[Some(1_000_000)], &control), None);
    }
}
