//! What the pods said about their work, and what follows from two looks in a row: rates and quality. Pure: times come from
//! the caller.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crds::status::LedgerStatus;

use crate::observed::Reading;

/// Looks that are kept: ten minutes at one in half a minute.
const LOOKS_MAX: usize = 20;

/// Rows by which a sink has to fall behind before that is more than noise: one of its batches.
const BEHIND_ROWS: u64 = 2_000;

/// How far processing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processing {
    /// Raw records processed since the topics began.
    pub processed: u64,
    /// Raw records that wait.
    pub lag: u64,
    /// The same by topic.
    pub lag_of: BTreeMap<String, u64>,
}

/// What the pods of an ingester or a sink have done, all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Events or rows that each pod has done since it began, by its address.
    pub done: BTreeMap<String, u64>,
    /// Events or rows that wait; nothing where nobody knows what there will be.
    pub waits: Option<u64>,
    /// Whether there is nothing more to do, ever: the source of an ingester has ended.
    pub is_complete: bool,
}

/// A topic that is otherwise than the spec says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct TopicDifference {
    /// The topic.
    pub topic: String,
    /// What `clickstream setup` would do about it, or what a person is to do.
    pub what: String,
    /// Whether only a person can do it.
    pub by_hand: bool,
}

/// One look at the pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// How far processing is.
    pub processing: Reading<Processing>,
    /// Where every event went.
    pub ledger: Reading<LedgerStatus>,
    /// What ingesters and sinks did, by component.
    pub work: BTreeMap<String, Reading<Work>>,
    /// Topics that are otherwise than the spec of this hash says; nothing where no pod with this very spec has looked.
    pub topics: Option<(String, Reading<Vec<TopicDifference>>)>,
    /// Why pods are not ready, by component.
    pub waiting: BTreeMap<String, String>,
}

impl Figures {
    /// Nothing could be read.
    #[must_use]
    pub fn unknown(why: &str) -> Self {
        let (processing, ledger) = (Reading::Unknown(why.into()), Reading::Unknown(why.into()));
        Self { processing, ledger, work: BTreeMap::new(), topics: None, waiting: BTreeMap::new() }
    }
}

/// How much goes in and out, in events a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// What arrives.
    pub arriving: f64,
    /// What is processed.
    pub processed: f64,
    /// What waits, in events.
    pub lag: u64,
}

/// Looks in a row at one pipeline.
#[derive(Clone, Debug, Default)]
pub struct History {
    looks: VecDeque<(Instant, Figures)>,
}

impl History {
    /// The last look.
    #[must_use]
    pub fn last(&self) -> Option<&Figures> {
        self.looks.back().map(|(_, figures)| figures)
    }

    /// Whether a look is due.
    #[must_use]
    pub fn is_due(&self, now: Instant, every: Duration) -> bool {
        self.looks.back().is_none_or(|(at, _)| now.duration_since(*at) >= every)
    }

    /// Adds a look.
    pub fn add(&mut self, now: Instant, figures: Figures) {
        self.looks.push_back((now, figures));
        if self.looks.len() > LOOKS_MAX {
            self.looks.pop_front();
        }
    }

    /// Rates between the last two looks, both known. A position that went back, as after a topic was made anew, is unknown.
    #[must_use]
    pub fn rates(&self) -> Reading<Rates> {
        let mut looks = self.looks.iter().rev();
        let (Some((now, last)), Some((then, before))) = (looks.next(), looks.next()) else {
            return Reading::Unknown("there was one look only".into());
        };
        let (last, before) = match (&last.processing, &before.processing) {
            (Reading::Known(last), Reading::Known(before)) => (last, before),
            (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => return Reading::Unknown(why.clone()),
        };
        let seconds = now.duration_since(*then).as_secs_f64();
        if last.processed < before.processed || seconds <= 0.0 {
            return Reading::Unknown("positions went back".into());
        }
        let processed = (last.processed - before.processed) as f64 / seconds;
        let arriving = (processed + (last.lag as f64 - before.lag as f64) / seconds).max(0.0);
        Reading::Known(Rates { arriving, processed, lag: last.lag })
    }

    /// What a component did a second between the last two looks, both known. Of a pod that began in between nobody knows when.
    #[must_use]
    pub fn rate_of(&self, component: &str) -> Option<f64> {
        let mut looks = self.looks.iter().rev();
        let ((now, last), (then, before)) = (looks.next()?, looks.next()?);
        let (last, before) = (known(last, component)?, known(before, component)?);
        let seconds = now.duration_since(*then).as_secs_f64();
        let more = |(pod, done): (&String, &u64)| done.checked_sub(*before.done.get(pod)?);
        let more: Vec<u64> = last.done.iter().filter_map(more).collect();
        (seconds > 0.0 && !more.is_empty()).then(|| more.iter().sum::<u64>() as f64 / seconds)
    }

    /// The sink that falls behind: at each of the last three looks more waited for it than before. One that is only late by
    /// chance does not grow twice in a row for long.
    #[must_use]
    pub fn falling_behind(&self) -> Option<&str> {
        let looks: Vec<&Figures> = self.looks.iter().rev().take(3).map(|(_, figures)| figures).collect();
        let [last, before, first] = looks[..] else { return None };
        let lag = |figures: &Figures, component: &str| known(figures, component)?.waits;
        let grows = |component: &str| {
            let (last, before, first) = (lag(last, component)?, lag(before, component)?, lag(first, component)?);
            (last > before && before > first && last - first >= BEHIND_ROWS).then_some(last)
        };
        let sinks =
            last.work.keys().filter_map(|component| Some((grows(component)?, component.strip_prefix("sink-")?)));
        sinks.max().map(|(_, sink)| sink)
    }

    /// Share of the records read during these looks that were valid, if any were read.
    #[must_use]
    pub fn quality(&self) -> Option<f64> {
        let known = |figures: &Figures| match &figures.ledger {
            Reading::Known(ledger) => Some(ledger.clone()),
            Reading::Unknown(_) => None,
        };
        let last = known(self.last()?)?;
        let first = self.looks.iter().find_map(|(_, figures)| known(figures))?;
        let read = last.read - first.read;
        (read > 0).then(|| 1.0 - (last.invalid - first.invalid) as f64 / read as f64)
    }
}

fn known<'a>(figures: &'a Figures, component: &str) -> Option<&'a Work> {
    match figures.work.get(component)? {
        Reading::Known(work) => Some(work),
        Reading::Unknown(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn look(processed: u64, lag: u64) -> Figures {
        let lag_of = [("events".to_owned(), lag)].into();
        let read = processed as i64;
        Figures {
            processing: Reading::Known(Processing { processed, lag, lag_of }),
            ledger: Reading::Known(LedgerStatus { read, invalid: read / 10, ..LedgerStatus::default() }),
            ..Figures::unknown("")
        }
    }

    #[test]
    fn rates_follow_from_two_looks_and_never_from_an_unknown_one() {
        let (start, step) = (Instant::now(), Duration::from_secs(30));
        let mut history = History::default();
        history.add(start, look(1_000, 0));
        assert!(matches!(history.rates(), Reading::Unknown(_)));
        history.add(start + step, look(4_000, 600));
        assert_eq!(history.rates(), Reading::Known(Rates { arriving: 120.0, processed: 100.0, lag: 600 }));
        assert_eq!(history.quality(), Some(0.9));
        history.add(start + step * 2, Figures::unknown("no pod of serve runs"));
        assert!(matches!(history.rates(), Reading::Unknown(_)) && history.quality().is_none());
        history.add(start + step * 3, look(10, 0));
        assert!(matches!(history.rates(), Reading::Unknown(_)));
        history.add(start + step * 4, look(5, 0));
        assert!(matches!(history.rates(), Reading::Unknown(_)), "a topic that was made anew has no rate");
        (0..50).for_each(|_| history.add(start + step * 5, look(5, 0)));
        assert_eq!(history.looks.len(), LOOKS_MAX);
    }

    #[test]
    fn a_component_does_what_its_pods_do_that_were_there_before() {
        let pods = |done: &[(&str, u64)]| {
            let done = done.iter().map(|(pod, done)| ((*pod).to_owned(), *done)).collect();
            Reading::Known(Work { done, ..Work::default() })
        };
        for (what, before, last, want) in [
            ("two pods", pods(&[("a", 100), ("b", 10)]), pods(&[("a", 400), ("b", 40)]), Some(11.0)),
            ("one is new", pods(&[("a", 100)]), pods(&[("a", 400), ("b", 40_000)]), Some(10.0)),
            ("one began again", pods(&[("a", 100), ("b", 10)]), pods(&[("a", 400), ("b", 5)]), Some(10.0)),
            ("one is gone", pods(&[("a", 100), ("b", 10)]), pods(&[("b", 10)]), Some(0.0)),
            ("all are new", pods(&[("a", 100)]), pods(&[("b", 100)]), None),
            ("nobody knows", Reading::Unknown("gone".into()), pods(&[("b", 100)]), None),
        ] {
            let (mut history, start) = (History::default(), Instant::now());
            for (work, at) in [(before, start), (last, start + Duration::from_secs(30))] {
                history.add(at, Figures { work: [("ingest-web".to_owned(), work)].into(), ..Figures::unknown("") });
            }
            assert_eq!(history.rate_of("ingest-web"), want, "{what}");
        }
    }

    #[test]
    fn a_sink_falls_behind_when_its_lag_grows_from_look_to_look() {
        let known = |rows: [u64; 3]| rows.map(Some);
        for (what, gold, want) in [
            ("it grows", known([0, 5_000, 9_000]), Some("gold")),
            ("it grew once", known([9_000, 0, 9_000]), None),
            ("it shrinks", known([9_000, 5_000, 0]), None),
            ("by less than a batch", known([0, 100, 200]), None),
            ("nobody knows", [Some(0), None, Some(9_000)], None),
        ] {
            let (mut history, mut now) = (History::default(), Instant::now());
            for lag in gold {
                now += Duration::from_secs(30);
                let waits = |rows| Reading::Known(Work { waits: Some(rows), ..Work::default() });
                let gold = lag.map_or_else(|| Reading::Unknown("gone".into()), waits);
                let work = [("sink-gold".to_owned(), gold), ("sink-lake".to_owned(), waits(7))].into();
                history.add(now, Figures { work, ..look(0, 0) });
            }
            assert_eq!(history.falling_behind(), want, "{what}");
        }
        assert_eq!(History::default().falling_behind(), None);
    }
}
