//! Commits the events of a generator as they come due.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use engine::{
    codec::{Corrupt, Reader, put_u64},
    time::Millis,
};

use super::{
    clock::Clock,
    generator::{Events, Generator, Model},
};
use crate::ingest::{
    IngestError,
    control::Control,
    limits::{BATCH_BYTES, BATCH_EVENTS, PACE_GATHER, PACE_STEP},
    now,
    outbox::{Outbox, Topics},
    routes::Targets,
};

/// A generator as an ingester, after checking.
#[derive(Debug)]
pub struct Feed {
    /// What it makes.
    pub model: Model,
    /// Records in all, if they are bounded.
    pub total: Option<u64>,
    /// Wait until the time of each event has come.
    pub paced: bool,
    /// The manifest fixes when the clock starts, so that it does not jump over a restart.
    pub fixed_start: bool,
    /// When to end, whatever is left.
    pub until: Option<Instant>,
}

/// First byte of the progress of a generator: kind and version.
const TAG: u8 = 0x31;

/// How far a clock without a pace may be from the real one.
const DRIFT_MS_MAX: Millis = 1_000;

/// Events between two looks at the size of a batch.
const STEP: u64 = 2_048;

impl Feed {
    /// Generates from the committed progress to the end, or until asked to end.
    ///
    /// # Errors
    /// As the log says.
    pub fn run(mut self, topics: &mut Topics, outbox: &mut Outbox, control: &Control) -> Result<(), IngestError> {
        let mut next = 0;
        if let Some(progress) = outbox.progress()? {
            next = read(&progress, &mut self.model.clock).map_err(|source| outbox.foreign(source))?;
            if !self.fixed_start {
                self.model.clock.restart(next, now());
            }
        }
        control.begin(next);
        control.total.store(self.total.unwrap_or(u64::MAX), Ordering::Relaxed);
        let (end, paced, until) = (self.total.unwrap_or(u64::MAX), self.paced, self.until);
        // A clock that the manifest started long ago or far ahead still goes at the pace of the real one.
        let ahead = if self.fixed_start { self.model.clock.at(next) - now() } else { 0 };
        let follow = !paced && !self.fixed_start;
        let mut generator = Generator::new(self.model, topics.partitions(0), next);
        let mut events = Events::default();
        while generator.next() < end && !control.stopped() && until.is_none_or(|until| Instant::now() < until) {
            let (next, began) = (generator.next(), Instant::now());
            if follow && (generator.clock().at(next) - now()).abs() > DRIFT_MS_MAX {
                generator.restart_clock(now());
            }
            let due = if paced { generator.clock().due(next, now() + ahead).min(end) } else { end };
            if due == next {
                let wait = wait_for(generator.clock().at(due) - ahead);
                if control.stopped_before(Instant::now() + wait) {
                    break;
                }
                continue;
            }
            events.clear();
            while generator.next() < due && events.bytes.len() < BATCH_BYTES && events.ends.len() < BATCH_EVENTS {
                generator.generate((due - generator.next()).min(STEP) as usize, &mut events);
            }
            let records: Vec<_> = match topics.route(events.iter().map(|(payload, _)| payload)) {
                // There the generator knows the key already.
                Targets::One => events.iter().map(|(payload, at)| topics.record_in(0, at, payload)).collect(),
                targets => {
                    events.iter().zip(0..).map(|((payload, _), at)| topics.record(targets.of(at), payload)).collect()
                }
            };
            outbox.commit(&records, &write(generator.next(), generator.clock()))?;
            drop(records);
            topics.turn();
            control.count(generator.next() - next);
            if paced && generator.next() == due && due < end && control.stopped_before(began + PACE_GATHER) {
                break;
            }
        }
        Ok(())
    }
}

fn wait_for(time: Millis) -> Duration {
    Duration::from_millis(u64::try_from(time - now()).unwrap_or(0)).clamp(Duration::from_millis(1), PACE_STEP)
}

fn write(next: u64, clock: &Clock) -> Vec<u8> {
    let mut out = vec![TAG];
    put_u64(next, &mut out);
    clock.put(&mut out);
    out
}

fn read(bytes: &[u8], clock: &mut Clock) -> Result<u64, Corrupt> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != TAG {
        return Err(Corrupt("not the progress of a generator"));
    }
    let next = reader.u64()?;
    clock.read(&mut reader)?;
    Ok(next)
}
