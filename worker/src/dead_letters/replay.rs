//! A replay: chosen letters are repaired, judged, and written for the pipeline to read, all in one commit.

use std::collections::{BTreeMap, BTreeSet};

use engine::{repaired, value::Value};
use serde::{Deserialize, Serialize};

use super::{
    DeadLetterError, DeadLetterQuery, DeadLetters, Watermarks, freed,
    judge::{FieldReader, Judge, Verdict},
    repair::{self, Repair},
    stored::Stored,
};
use crate::{clock, limits, ports::Records};

use super::marks::Marks;

/// What is to be replayed, and how it is repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// These letters; else those that the other fields choose.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Letters of this stream.
    #[serde(default)]
    pub stream: Option<String>,
    /// Letters with this reason.
    #[serde(default)]
    pub reason: Option<String>,
    /// All letters that streams refused.
    #[serde(default)]
    pub all: bool,
    /// Repairs: `field=expression`.
    #[serde(default)]
    pub set: Vec<String>,
    /// A whole record in place of the one letter that is named.
    #[serde(default)]
    pub json: Option<String>,
    /// Only tell what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Nothing was written.
    pub dry_run: bool,
    /// Letters that were (or would be) written as repaired records.
    pub repaired: u64,
    /// Letters that stay as they are, because the stream would refuse them again.
    pub refused: u64,
    /// Letters that were replayed before.
    pub already: u64,
    /// Tables whose windows are freed, and for how many of the repaired records.
    pub freed: BTreeMap<String, u64>,
    /// There are more letters than one request takes: ask again.
    pub more: bool,
    /// The first of the letters, each with what became of it.
    pub letters: Vec<Replayed>,
}

/// What became of a letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The letter.
    pub id: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it is refused, or which tables it comes too late for.
    pub detail: String,
    /// The repaired record.
    pub text: String,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes through the pipeline as a correction.
    #[default]
    Repaired,
    /// It stays a dead letter.
    Refused,
}

impl ReplayRequest {
    pub(super) fn numbers(&self) -> Result<Vec<u64>, DeadLetterError> {
        let number = |id: &String| {
            id.parse().map_err(|_| DeadLetterError::Mistake(format!("there is no dead letter {id}: they have numbers")))
        };
        let numbers: BTreeSet<u64> = self.ids.iter().map(number).collect::<Result<_, _>>()?;
        if numbers.len() > limits::REPLAY_LETTERS_MAX {
            let told = format!("at most {} letters at a time", limits::REPLAY_LETTERS_MAX);
            return Err(DeadLetterError::Mistake(told));
        }
        Ok(numbers.into_iter().collect())
    }

    pub(super) fn query(&self) -> DeadLetterQuery {
        DeadLetterQuery { stream: self.stream.clone(), reason: self.reason.clone(), limit: 0 }
    }

    fn check(&self) -> Result<(), DeadLetterError> {
        let told = match (&self.json, self.ids.len()) {
            (None, _) if self.set.is_empty() => "say how to repair them: set a field, or give a whole record",
            (Some(_), ids) if ids != 1 => "a whole record replaces one letter: name it",
            _ => return Ok(()),
        };
        Err(DeadLetterError::Mistake(told.into()))
    }
}

impl DeadLetters {
    /// Repairs the chosen letters and writes them where a MAP task reads them. The windows that an event is too late for are
    /// told by `marks`.
    ///
    /// # Errors
    /// A mistake in the request; or the log failed, and nothing was written.
    pub fn replay(&self, request: &ReplayRequest, marks: &Watermarks) -> Result<ReplayReport, DeadLetterError> {
        request.check()?;
        let _one_at_a_time = self.replaying.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut session = if request.dry_run { None } else { Some(self.store.begin()?) };
        let marked = session.as_ref().map_or_else(|| self.store.marks(), |session| session.marks())?;
        let mut replayed = marked.map(|bytes| Marks::read(&bytes)).unwrap_or_default();
        let choice = self.choose(request, &replayed)?;
        let mut bench = Bench::new(self, request, &choice.letters)?;
        let mut report = ReplayReport {
            dry_run: request.dry_run,
            already: choice.already,
            more: choice.more,
            ..ReplayReport::default()
        };
        let mut records = Records::default();
        for (id, letter) in &choice.letters {
            let result = bench.repair(self, letter, marks)?;
            match &result {
                Ok(done) => {
                    let stream = &self.plan.streams[done.stream].name;
                    records.push_with(|out| repaired::write(stream, done.text.as_bytes(), out));
                    replayed.add(*id);
                    done.freed.iter().for_each(|table| *report.freed.entry(table.clone()).or_default() += 1);
                    report.repaired += 1;
                }
                Err(_) => report.refused += 1,
            }
            if report.letters.len() < limits::REPLAY_LETTERS_SHOWN {
                report.letters.push(shown(*id, result));
            }
        }
        if let Some(session) = session.as_mut().filter(|_| !records.is_empty()) {
            session.commit(&records, &replayed.write())?;
        }
        Ok(report)
    }
}

/// A record that is whole again.
struct Done {
    stream: usize,
    text: String,
    /// Tables that come too late.
    freed: Vec<String>,
}

fn shown(id: u64, result: Result<Done, String>) -> Replayed {
    let id = id.to_string();
    match result {
        Ok(Done { text, freed, .. }) => {
            let detail = match freed.is_empty() {
                true => String::new(),
                false => format!("too late for {}: their windows are freed", freed.join(", ")),
            };
            Replayed { id, outcome: Outcome::Repaired, detail, text }
        }
        Err(detail) => Replayed { id, outcome: Outcome::Refused, detail, text: String::new() },
    }
}

/// Everything that repairs and judges, made once for a replay.
struct Bench {
    judge: Judge,
    repairs: BTreeMap<String, (usize, Repair, Option<FieldReader>)>,
}

impl Bench {
    fn new(letters: &DeadLetters, request: &ReplayRequest, chosen: &[(u64, Stored)]) -> Result<Self, DeadLetterError> {
        let mut keys: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (_, letter) in chosen {
            let known = keys.entry(&letter.stream).or_default();
            if known.len() < limits::REPLAY_KEYS_MAX {
                known.extend(repair::keys(&letter.bytes()));
            }
        }
        let mut repairs = BTreeMap::new();
        for (name, keys) in keys {
            let streams = &letters.plan.streams;
            let Some(at) = streams.iter().position(|stream| stream.name == name) else { continue };
            let repair = Repair::new(&streams[at], &request.set, request.json.as_deref(), &keys);
            let repair = repair.map_err(DeadLetterError::Mistake)?;
            repairs.insert(name.to_owned(), (at, repair, FieldReader::of_event_time(&streams[at])));
        }
        Ok(Self { judge: Judge::new(&letters.plan), repairs })
    }

    /// Repairs and judges a letter. The inner error says why it stays one.
    fn repair(
        &mut self,
        letters: &DeadLetters,
        letter: &Stored,
        marks: &Watermarks,
    ) -> Result<Result<Done, String>, DeadLetterError> {
        if let Some(table) = &letter.table {
            return Ok(Err(format!(
                "the stream accepted it, and only {table} refused it: it needs a replay of history"
            )));
        }
        let Some((stream, repair, time)) = self.repairs.get_mut(&letter.stream) else {
            return Ok(Err(format!("there is no stream {}", letter.stream)));
        };
        let whole = letters.whole(letter)?;
        if letter.truncated && whole.is_none() {
            return Ok(Err("only its beginning is left".into()));
        }
        let text = match repair.apply(&whole.unwrap_or_else(|| letter.bytes())) {
            Ok(text) => text,
            Err(why) => return Ok(Err(why)),
        };
        let filtered = match self.judge.judge(*stream, text.as_bytes(), clock::now()) {
            Verdict::Valid { filtered } => filtered,
            Verdict::Duplicate => return Ok(Err("another letter of this replay has the same id".into())),
            Verdict::Refused(reason, detail) => return Ok(Err(format!("still refused: {reason}: {detail}"))),
        };
        let at = time.as_mut().map(|reader| reader.read(text.as_bytes()));
        let freed = match at {
            Some(Value::Timestamp(at)) => freed::tables(&letters.plan, *stream, at, marks),
            _ => Vec::new(),
        };
        let freed = freed.into_iter().filter(|table| !filtered.iter().any(|other| other == table));
        Ok(Ok(Done { stream: *stream, freed: freed.map(str::to_owned).collect(), text }))
    }
}
