//! What the API server does not let us carry out, as people are told of it. Pure; times come from the caller.
//!
//! What is refused for a reason is told at once. What may go away by itself, as a conflict or a busy server does, is told
//! when it happened [`IN_A_ROW`] times.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

/// The reason of the condition and of the event.
pub const REASON: &str = "ApplyFailed";

/// Failures in a row after which one that may go away by itself is told all the same: with pauses of 1 s and 2 s between
/// them, a restart of the API server is over by then.
const IN_A_ROW: u32 = 3;

/// Another text about the same step is told so much later at the earliest: a status that is written has the pipeline looked
/// at again, and a server that names a port or a time in its answer would keep us writing.
const ANOTHER_TEXT_AFTER: Duration = Duration::from_secs(30);

/// Different troubles in a row of failures of which events are written.
const ANNOUNCED_MAX: usize = 16;

/// Of what a server says, a line is told, of so many bytes.
const SAID_BYTES_MAX: usize = 400;

/// Why a step was not carried out.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// The API server refused it.
    Said {
        /// The HTTP status.
        code: u16,
        /// What it said.
        text: &'a str,
    },
    /// There was no answer: it may pass.
    Nothing {
        /// What happened instead.
        text: &'a str,
    },
    /// The name of its object is taken: people have to decide whose it is.
    Taken {
        /// Which one.
        text: &'a str,
    },
}

impl<'a> Answer<'a> {
    const fn text(self) -> &'a str {
        match self {
            Self::Said { text, .. } | Self::Nothing { text } | Self::Taken { text } => text,
        }
    }

    /// Whether trying again may be enough.
    fn may_pass(self) -> bool {
        match self {
            Self::Said { code, .. } => !(400..500).contains(&code) || matches!(code, 404 | 408 | 409 | 429),
            Self::Nothing { .. } => true,
            Self::Taken { .. } => false,
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Taken { .. } => "remove that object, or make the pipeline under another name",
            Self::Said { code: 403, text } if text.contains("quota") => {
                "raise the quota of the namespace, or ask for less"
            }
            Self::Said { code: 403, .. } => {
                "allow it: see the rights of the operator's account and the policies of the namespace"
            }
            Self::Said { code: 413, .. } => "make the manifest smaller",
            Self::Said { code: 400..500, .. } if !self.may_pass() => "correct in the spec what it names",
            Self::Said { .. } | Self::Nothing { .. } => "see whether the API server works",
        }
    }
}

/// A step that failed, and will fail again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What was tried.
    pub step: String,
    /// What the server said.
    said: String,
    /// What to do.
    remedy: &'static str,
}

impl Trouble {
    /// Whether a text that was told before is about the same step.
    #[must_use]
    pub fn is_about(&self, told: &str) -> bool {
        told.strip_prefix(&self.step).is_some_and(|rest| rest.starts_with(':'))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, said, remedy } = self;
        write!(f, "{step}: {said}; what runs goes on, and it is tried again: {remedy}")
    }
}

/// The failures of one pipeline in a row.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    count: u32,
    told: Option<(Instant, Trouble)>,
    /// What events were written of, at most [`ANNOUNCED_MAX`].
    announced: BTreeSet<String>,
}

impl Failures {
    /// One more; how many that makes.
    pub fn add(&mut self) -> u32 {
        self.count = self.count.saturating_add(1);
        self.count
    }

    /// What people are to be told of a step that failed just now, if anything yet.
    pub fn tell(&mut self, now: Instant, step: String, answer: Answer<'_>) -> Option<Trouble> {
        if answer.may_pass() && self.count + 1 < IN_A_ROW {
            return None;
        }
        let trouble = Trouble { step, said: first_line(answer.text()), remedy: answer.remedy() };
        match &self.told {
            Some((at, told)) if told.step == trouble.step && now.duration_since(*at) < ANOTHER_TEXT_AFTER => {
                Some(told.clone())
            }
            Some((_, told)) if *told == trouble => Some(trouble),
            _ => {
                self.told = Some((now, trouble.clone()));
                Some(trouble)
            }
        }
    }

    /// Whether no event was written of it yet in this row of failures; from now on one is.
    pub fn is_news(&mut self, trouble: &Trouble) -> bool {
        self.announced.len() < ANNOUNCED_MAX && self.announced.insert(trouble.step.clone())
    }
}

fn first_line(said: &str) -> String {
    let line = said.trim().lines().next().unwrap_or("no answer").trim_end();
    let end = (0..=SAID_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    let more = if end < line.len() { "…" } else { "" };
    format!("{}{more}", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(failures: &mut Failures, now: Instant, code: u16, said: &str) -> Option<String> {
        let told = failures.tell(now, "apply Deployment shop-process".into(), Answer::Said { code, text: said });
        failures.add();
        told.map(|told| told.to_string())
    }

    #[test]
    fn what_is_refused_is_told_at_once_and_what_may_pass_the_third_time() {
        let now = Instant::now();
        for (code, said, times, remedy) in [
            (403, "deployments.apps is forbidden: exceeded quota: small", 1, "raise the quota"),
            (403, "cannot patch resource", 1, "allow it"),
            (413, "Request entity too large", 1, "smaller"),
            (422, "Deployment is invalid: spec.template", 1, "correct in the spec"),
            (400, "strict decoding error", 1, "correct in the spec"),
            (409, "the object has been modified", 3, "whether the API server works"),
            (429, "too many requests", 3, "whether the API server works"),
            (404, "namespaces shop not found", 3, "whether the API server works"),
            (500, "etcd has no leader", 3, "whether the API server works"),
            (0, "connection refused", 3, "whether the API server works"),
        ] {
            let mut failures = Failures::default();
            let first = (1..10).find_map(|time| Some((time, tell(&mut failures, now, code, said)?)));
            let (time, told) = first.unwrap();
            assert_eq!(time, times, "{code}");
            assert!(told.starts_with("apply Deployment shop-process: ") && told.contains(said), "{told}");
            assert!(told.contains(remedy), "{told}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_told_at_once_with_what_to_do() {
        let text = "Deployment shop-process in namespace shop is not of this pipeline, and stays as it is";
        let answer = Answer::Taken { text };
        let told = Failures::default().tell(Instant::now(), "apply Deployment shop-process".into(), answer).unwrap();
        let told = told.to_string();
        assert!(told.contains(text) && told.ends_with("make the pipeline under another name"), "{told}");
    }

    #[test]
    fn a_text_that_changes_at_every_try_is_told_now_and_then() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let texts: Vec<String> = (0..60)
            .filter_map(|second| {
                tell(&mut failures, now + Duration::from_secs(second), 403, &format!("from port {second}"))
            })
            .collect();
        let changes = texts.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!((texts.len(), changes), (60, 1));
        let other = failures.tell(now, "delete Job x".into(), Answer::Said { code: 403, text: "no" }).unwrap();
        assert_eq!(other.step, "delete Job x", "another step is news");
    }

    #[test]
    fn of_troubles_that_take_turns_each_is_news_once() {
        let mut failures = Failures::default();
        let mut news = |step: &str| {
            let answer = Answer::Said { code: 403, text: "no" };
            let trouble = failures.tell(Instant::now(), step.into(), answer).unwrap();
            failures.is_news(&trouble)
        };
        let told: Vec<bool> = ["a", "b", "a", "b", "c"].into_iter().map(&mut news).collect();
        assert_eq!(told, [true, true, false, false, true]);
        let many = (0..100).filter(|step| news(&step.to_string())).count();
        assert_eq!(many, ANNOUNCED_MAX - 3);
    }

    #[test]
    fn of_a_long_answer_one_line_is_told() {
        let told = first_line(&format!("  Deployment is invalid: {}\nsecond line", "ü".repeat(1_000)));
        assert!(told.len() <= SAID_BYTES_MAX + '…'.len_utf8() && told.ends_with('…'), "{told}");
        assert_eq!(first_line(" one \n two"), "one");
        assert_eq!(first_line(""), "no answer");
    }
}
