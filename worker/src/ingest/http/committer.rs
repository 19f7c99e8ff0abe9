//! One thread between the requests and the log: what arrives within a few milliseconds is committed together.
//!
//! Requests write the channel, the committer reads it; a full channel is the back-pressure that clients see as 503.
//! Its closing means that the collector has ended.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use engine::codec::put_u64;
use tokio::sync::oneshot;

use crate::ingest::{
    IngestError,
    control::Control,
    limits::{BATCH_BYTES, GATHER},
    outbox::{Outbox, Topics},
};

/// The accepted events of one request.
pub struct Posted {
    /// The body.
    pub body: Vec<u8>,
    /// Where the events lie in it.
    pub events: Vec<Range<usize>>,
    /// Told once they are durably in the log; dropped if they could not be written.
    pub stored: oneshot::Sender<()>,
}

/// First byte of the progress of a collector: kind and version.
const TAG: u8 = 0x21;

/// How often an idle committer looks whether it should end.
const IDLE: Duration = Duration::from_millis(50);

/// Commits until asked to end, and then what is still waiting. Progress is the number of events so far.
///
/// # Errors
/// As the log says; requests that wait are then answered 503.
pub fn run(
    posted: &Receiver<Posted>,
    topics: &mut Topics,
    outbox: &mut Outbox,
    control: &Control,
    until: Option<Instant>,
) -> Result<(), IngestError> {
    let mut total = committed(outbox)?;
    loop {
        let over = control.stopped() || until.is_some_and(|until| Instant::now() >= until);
        let requests = gather(posted, if over { Duration::ZERO } else { IDLE });
        if requests.is_empty() {
            if over {
                outbox.end();
                return Ok(());
            }
            continue;
        }
        let events =
            requests.iter().flat_map(|request| request.events.iter().map(|event| &request.body[event.clone()]));
        let targets = topics.route(events.clone());
        let records: Vec<_> = events.zip(0..).map(|(event, at)| topics.record(targets.of(at), event)).collect();
        let count = records.len() as u64;
        total += count;
        let mut progress = vec![TAG];
        put_u64(total, &mut progress);
        outbox.commit(&records, &progress)?;
        drop(records);
        topics.turn();
        control.count(count);
        for request in requests {
            // A client that has gone meanwhile does not hear it.
            let _ = request.stored.send(());
        }
    }
}

fn committed(outbox: &Outbox) -> Result<u64, IngestError> {
    let Some(progress) = outbox.progress()? else { return Ok(0) };
    let mut reader = engine::codec::Reader::new(&progress);
    let tag = reader.u8();
    match (tag, reader.u64()) {
        (Ok(TAG), Ok(total)) => Ok(total),
        (Err(source), _) | (_, Err(source)) => Err(outbox.foreign(source)),
        _ => Err(outbox.foreign(engine::codec::Corrupt("not the progress of a collector"))),
    }
}

/// Waits for a request, then takes what else arrives within [`GATHER`], up to a batch.
fn gather(posted: &Receiver<Posted>, wait: Duration) -> Vec<Posted> {
    let first = match posted.recv_timeout(wait) {
        Ok(first) => first,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Vec::new(),
    };
    let deadline = Instant::now() + GATHER;
    let mut bytes = first.body.len();
    let mut requests = vec![first];
    while bytes < BATCH_BYTES {
        let Ok(next) = posted.recv_deadline(deadline) else { break };
        bytes += next.body.len();
        requests.push(next);
    }
    requests
}
