//! Which letters are to be replayed.

use super::{DeadLetterError, DeadLetters, marks::Marks, replay::ReplayRequest, stored::Stored};
use crate::limits;

/// The letters that a request means.
#[derive(Debug, Default)]
pub struct Choice {
    pub(super) letters: Vec<(u64, Stored)>,
    /// Letters that were replayed before.
    pub(super) already: u64,
    /// There are more than one request may take.
    pub(super) more: bool,
}

impl DeadLetters {
    /// Finds the letters of a request, oldest first. Letters that were replayed, or are late for a table, are left out
    /// unless the request names them.
    pub(super) fn choose(&self, request: &ReplayRequest, marks: &Marks) -> Result<Choice, DeadLetterError> {
        let ids = request.numbers()?;
        if !ids.is_empty() {
            return self.named(&ids, marks);
        }
        if !request.all && request.stream.is_none() && request.reason.is_none() {
            let told = "say which letters: their numbers, a stream, a reason, or all";
            return Err(DeadLetterError::Mistake(told.into()));
        }
        let mut choice = Choice::default();
        let mut bytes = 0;
        self.scan(0, |id, letter| {
            let wanted = request.query().wants(&letter.stream, &letter.reason) && letter.table.is_none();
            if !wanted {
                return true;
            }
            if marks.has(id) {
                choice.already += 1;
                return true;
            }
            choice.more = choice.letters.len() == limits::REPLAY_LETTERS_MAX || bytes > limits::REPLAY_BYTES_MAX;
            if !choice.more {
                bytes += letter.size();
                choice.letters.push((id, letter));
            }
            !choice.more
        })?;
        Ok(choice)
    }

    fn named(&self, ids: &[u64], marks: &Marks) -> Result<Choice, DeadLetterError> {
        let mut choice = Choice::default();
        for id in ids {
            let mut found = None;
            self.scan(*id, |at, letter| {
                found = (at == *id).then_some(letter);
                false
            })?;
            let letter = found.ok_or_else(|| DeadLetterError::Mistake(format!("there is no dead letter {id}")))?;
            if marks.has(*id) {
                choice.already += 1;
            } else {
                choice.letters.push((*id, letter));
            }
        }
        Ok(choice)
    }
}
