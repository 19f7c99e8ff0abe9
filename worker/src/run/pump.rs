//! The pump: results of the log into the tables, by a thread of its own. Exactly once, because the store keeps the offset in
//! the transaction that writes the rows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use engine::batch::RawBatch;

use crate::{
    driver::Shared,
    limits,
    log::record::read_result,
    ports::Log,
    store::{ResultRecord, TableStore},
};

/// The pump's thread.
pub(super) struct Pump {
    thread: JoinHandle<anyhow::Result<()>>,
    flags: Arc<Flags>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Flags {
    stop: AtomicBool,
    failed: AtomicBool,
    /// Offset of the results that the tables hold.
    offset: AtomicU64,
}

impl Pump {
    /// Starts the thread where the store left off.
    pub(super) fn start(shared: Arc<Shared>, store: TableStore) -> anyhow::Result<Self> {
        let flags = Arc::new(Flags::default());
        let (its_shared, its_flags) = (Arc::clone(&shared), Arc::clone(&flags));
        let body = move || {
            let result = pump(&its_shared, store, &its_flags);
            its_flags.failed.store(result.is_err(), Ordering::Release);
            result
        };
        let thread = std::thread::Builder::new().name("pump".into()).spawn(body).context("no thread for the pump")?;
        Ok(Self { thread, flags, shared })
    }

    /// Whether the thread gave up; [`Pump::finish`] says why.
    pub(super) fn has_failed(&self) -> bool {
        self.flags.failed.load(Ordering::Acquire)
    }

    /// Offset up to which the tables hold the results.
    pub(super) fn offset(&self) -> u64 {
        self.flags.offset.load(Ordering::Relaxed)
    }

    /// Waits until everything that is in the log now is in the tables.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.flags.stop.store(true, Ordering::Release);
        self.shared.log.nudge();
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the pump panicked")))
    }
}

fn pump(shared: &Shared, mut store: TableStore, flags: &Flags) -> anyhow::Result<()> {
    let at = shared.layout.results();
    let mut batch = RawBatch::default();
    let mut next = store.offset().max(shared.log.offsets(at).start);
    loop {
        let seen = shared.log.changes();
        let stopping = flags.stop.load(Ordering::Acquire);
        batch.clear();
        // Only what no power cut can take back: tables must not know more than the log.
        shared.log.read(at, next..shared.log.durable_end(at), limits::RESULTS_READ_BYTES, &mut batch)?;
        if batch.records.is_empty() {
            if stopping && next >= shared.log.offsets(at).end {
                return Ok(());
            }
            shared.log.wait(seen, Duration::from_millis(200));
            continue;
        }
        let records = batch.records.iter().map(|record| {
            let (key, document) = read_result(batch.payload(record))?;
            Ok(ResultRecord { offset: record.offset, key, document })
        });
        let records = records.collect::<Result<Vec<_>, engine::codec::Corrupt>>().context("damaged results")?;
        store.apply(&records)?;
        next = store.offset();
        flags.offset.store(next, Ordering::Relaxed);
    }
}
