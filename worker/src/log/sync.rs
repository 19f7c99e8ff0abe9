//! The thread that forces commits to disk, some time after they returned.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Fsync, SharedLog};
use crate::{limits, ports::Log};

/// The syncer. Ends after [`super::EmbeddedLog::close_inlets`]; whoever closes the log syncs once more.
pub struct Syncer {
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the thread; under [`Fsync::Always`] there is nothing for it to do.
    ///
    /// # Errors
    /// When the machine has no thread left.
    pub fn start(log: &SharedLog) -> std::io::Result<Self> {
        if log.fsync == Fsync::Always {
            return Ok(Self { thread: None });
        }
        let log = log.clone();
        let thread = thread::Builder::new().name("log-sync".into()).spawn(move || run(&log))?;
        Ok(Self { thread: Some(thread) })
    }

    /// Waits for the end of the thread.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's sync thread panicked");
        }
    }
}

fn run(log: &SharedLog) {
    while !log.is_closed() {
        let seen = log.changes();
        if log.is_dirty() {
            let started = Instant::now();
            if let Err(error) = log.sync() {
                tracing::error!(%error, "failed to force the log to disk");
                return;
            }
            let pause = limits::FSYNC_EVERY.max(started.elapsed() * limits::FSYNC_PAUSE_FACTOR);
            log.wait_for_close(pause);
        } else {
            log.wait(seen, Duration::from_secs(1));
        }
    }
}
