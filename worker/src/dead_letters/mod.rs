//! Dead letters: looked through, shown, and sent through the pipeline again once they are repaired.
//!
//! ```text
//!  dead letters ─► chosen ─► repair (expressions, JSON) ─► judged by a MAP task ─┬─► repaired + marks, one commit
//!                                                                                 └─► told why it is still refused
//! ```
//! Invariants: a letter that was replayed is marked in the commit that writes its repaired record, so that no letter goes in
//! twice; a record that the stream would refuse again is not written; nothing is ever deleted here.
//!
//! What is absent and why: letters that were late for one table. Their events were accepted and counted elsewhere, so
//! sending them again would count them twice; they need a replay of history.

mod choose;
mod freed;
mod judge;
mod marks;
mod repair;
mod replay;
mod store;
mod stored;
mod view;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use engine::{plan::Plan, repaired, time::Millis};

pub use choose::Choice;
pub use freed::watermarks;
pub(crate) use judge::FieldReader;
pub use replay::{Outcome, ReplayReport, ReplayRequest, Replayed};
pub use store::{LetterStore, Replaying};
pub use view::{DeadLetterDetail, DeadLetterPage, DeadLetterQuery, DeadLetterView, ReasonCount};

use crate::{log::SharedLog, ports::LogError};
use marks::Marks;
use store::EmbeddedLetters;
use stored::Stored;

/// Under what name the log remembers which letters were replayed.
pub(crate) const MARKS: &str = Marks::NAME;

/// Why a question about dead letters has no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The user has to change something.
    #[error("{0}")]
    Mistake(String),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A letter is not what this program writes.
    #[error("dead letter {id} is damaged")]
    Damaged {
        /// Its number.
        id: u64,
        /// Why.
        source: serde_json::Error,
    },
}

/// The dead letters of one pipeline.
pub struct DeadLetters {
    store: Box<dyn LetterStore>,
    plan: Arc<Plan>,
    /// Held while letters are replayed: marks are read, added to and written back.
    replaying: Mutex<()>,
}

/// The latest merged watermark of each stream and join, where there is one.
pub type Watermarks = BTreeMap<String, Millis>;

impl DeadLetters {
    /// Finds them in the embedded log.
    ///
    /// # Errors
    /// Where the log was opened without their topic.
    pub fn new(log: SharedLog, plan: Arc<Plan>) -> Result<Self, LogError> {
        Ok(Self::over(EmbeddedLetters::new(log, &plan)?, plan))
    }

    /// Those that lie elsewhere.
    #[must_use]
    pub fn over(store: impl LetterStore + 'static, plan: Arc<Plan>) -> Self {
        Self { store: Box::new(store), plan, replaying: Mutex::new(()) }
    }

    /// The newest letters that are wanted, among the newest `look_through`, and how many there are by reason.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn list(&self, query: &DeadLetterQuery, look_through: u64) -> Result<DeadLetterPage, DeadLetterError> {
        let marks = self.marks()?;
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut letters = VecDeque::new();
        let end = self.store.numbers()?.end;
        self.scan(end.saturating_sub(look_through), |id, letter| {
            *counts.entry((letter.stream.clone(), letter.reason.clone())).or_default() += 1;
            if query.wants(&letter.stream, &letter.reason) {
                letters.push_front(letter.view(id, marks.has(id)));
                letters.truncate(query.limit);
            }
            true
        })?;
        let reasons = counts.into_iter().map(|((stream, reason), count)| ReasonCount { stream, reason, count });
        Ok(DeadLetterPage { reasons: reasons.collect(), letters: letters.into() })
    }

    /// One letter with all its bytes, as far as they are still there.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<DeadLetterDetail>, DeadLetterError> {
        let mut found = None;
        if self.store.numbers()?.contains(&id) {
            self.scan(id, |at, letter| {
                found = (at == id).then_some(letter);
                false
            })?;
        }
        let Some(letter) = found else { return Ok(None) };
        let whole = self.whole(&letter)?;
        let is_cut = letter.truncated && whole.is_none();
        let bytes = whole.unwrap_or_else(|| letter.bytes());
        let mut view = letter.view(id, self.marks()?.has(id));
        view.truncated = is_cut;
        Ok(Some(DeadLetterDetail::new(view, &bytes)))
    }

    /// Calls `each` with the letters from `first` on, until it returns false.
    fn scan(&self, first: u64, mut each: impl FnMut(u64, Stored) -> bool) -> Result<(), DeadLetterError> {
        let mut damaged = None;
        self.store.scan(first, &mut |id, bytes| match parse(id, bytes) {
            Ok(letter) => each(id, letter),
            Err(error) => {
                damaged = Some(error);
                false
            }
        })?;
        damaged.map_or(Ok(()), Err)
    }

    /// The record behind a letter that holds only its beginning; `None` for whole letters and where retention was faster.
    fn whole(&self, letter: &Stored) -> Result<Option<Vec<u8>>, LogError> {
        if !letter.truncated {
            return Ok(None);
        }
        let record = self.store.record(&letter.topic, letter.partition, letter.offset)?;
        let is_raw = self.plan.topics.iter().any(|topic| topic.name == letter.topic);
        Ok(record.map(|record| if is_raw { record } else { behind_stream(&record).to_vec() }))
    }

    fn marks(&self) -> Result<Marks, LogError> {
        Ok(self.store.marks()?.map(|bytes| Marks::read(&bytes)).unwrap_or_default())
    }
}

fn parse(id: u64, bytes: &[u8]) -> Result<Stored, DeadLetterError> {
    serde_json::from_slice(bytes).map_err(|source| DeadLetterError::Damaged { id, source })
}

/// A repaired record without the name of its stream.
pub(crate) fn behind_stream(record: &[u8]) -> &[u8] {
    repaired::read(record).map_or(record, |(_, payload)| payload)
}
