//! A thread for one job at a time, so that whoever gives it goes on meanwhile.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::ports::LogError;

/// The thread. It ends after the first job that fails: nothing after that may count.
pub(super) struct Aside<J, T> {
    jobs: Option<Sender<J>>,
    outcomes: Receiver<Result<T, LogError>>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static, T: Send + 'static> Aside<J, T> {
    /// Starts it.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(super) fn start(
        name: &str,
        mut work: impl FnMut(J) -> Result<T, LogError> + Send + 'static,
    ) -> Result<Self, LogError> {
        let (jobs, wanted) = bounded(1);
        let (told, outcomes) = bounded(1);
        let run = move || {
            for job in wanted {
                let outcome = work(job);
                let is_over = outcome.is_err();
                if told.send(outcome).is_err() || is_over {
                    return;
                }
            }
        };
        let failed = |source: io::Error| LogError::Io {
            action: "start a thread for",
            place: name.into(),
            source: Box::new(source),
        };
        let thread = thread::Builder::new().name(name.into()).spawn(run).map_err(failed)?;
        Ok(Self { jobs: Some(jobs), outcomes, is_busy: false, thread: Some(thread) })
    }

    /// Gives it a job; the one before must have been [`settled`](Self::settle).
    ///
    /// # Errors
    /// Where the thread has ended.
    pub(super) fn give(&mut self, job: J) -> Result<(), LogError> {
        debug_assert!(!self.is_busy, "one job at a time");
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(LogError::Closed)?;
        self.is_busy = true;
        Ok(())
    }

    /// Waits for the job that is under way; none, if there is none.
    ///
    /// # Errors
    /// What the job says.
    pub(super) fn settle(&mut self) -> Result<Option<T>, LogError> {
        if !self.is_busy {
            return Ok(None);
        }
        self.is_busy = false;
        self.outcomes.recv().map_err(|_| LogError::Closed)?.map(Some)
    }

    /// As [`Aside::settle`], without waiting.
    ///
    /// # Errors
    /// What the job says.
    pub(super) fn look(&mut self) -> Result<Option<T>, LogError> {
        self.wait(Duration::ZERO)
    }

    /// As [`Aside::settle`], at most for so long: where the job has not ended by then, [`Aside::is_busy`] says so.
    ///
    /// # Errors
    /// What the job says.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<Option<T>, LogError> {
        if !self.is_busy {
            return Ok(None);
        }
        let outcome = match self.outcomes.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(LogError::Closed),
        };
        self.is_busy = false;
        outcome.map(Some)
    }
}

impl<J, T> Aside<J, T> {
    /// Whether a job is under way, as far as was heard.
    pub(super) const fn is_busy(&self) -> bool {
        self.is_busy
    }
}

/// What is under way comes to its end.
impl<J, T> Drop for Aside<J, T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
