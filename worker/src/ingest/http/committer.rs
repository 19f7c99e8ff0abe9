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

use crate::{
    ingest::{
        IngestError,
        control::Control,
        limits::{BATCH_BYTES, GATHER},
        outbox::{Outbox, Topics},
    },
    ports::LogError,
};

/// The accepted events of one request.
pub struct Posted {
    /// The body.
    pub body: Vec<u8>,
    /// Where the events lie in it.
    pub events: Vec<Range<usize>>,
    /// Told once they are durably in the log, or why they never will be; dropped if they could not be written.
    pub stored: oneshot::Sender<Result<(), String>>,
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
    control.begin(0);
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
        match write(&requests, topics, outbox, &mut total) {
            // What one client sent keeps nobody else waiting.
            Err(IngestError::Log(LogError::TooLarge { .. })) if requests.len() > 1 => {
                for request in requests {
                    let written = write(std::slice::from_ref(&request), topics, outbox, &mut total);
                    answer(vec![request], written, control)?;
                }
            }
            written => answer(requests, written, control)?,
        }
    }
}

/// Commits the events of some requests together; `total` are all so far.
fn write(requests: &[Posted], topics: &mut Topics, outbox: &mut Outbox, total: &mut u64) -> Result<(), IngestError> {
    let events = requests.iter().flat_map(|request| request.events.iter().map(|event| &request.body[event.clone()]));
    let targets = topics.route(events.clone());
    let records: Vec<_> = events.zip(0..).map(|(event, at)| topics.record(targets.of(at), event)).collect();
    let count = *total + records.len() as u64;
    let mut progress = vec![TAG];
    put_u64(count, &mut progress);
    outbox.commit(&records, &progress)?;
    *total = count;
    topics.turn();
    Ok(())
}

/// Tells requests what became of their events. A client that has gone meanwhile does not hear it.
fn answer(requests: Vec<Posted>, written: Result<(), IngestError>, control: &Control) -> Result<(), IngestError> {
    let told = match written {
        Ok(()) => Ok(()),
        Err(IngestError::Log(error @ LogError::TooLarge { .. })) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    for request in requests {
        if told.is_ok() {
            control.count(request.events.len() as u64);
        }
        let _ = request.stored.send(told.clone());
    }
    Ok(())
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
