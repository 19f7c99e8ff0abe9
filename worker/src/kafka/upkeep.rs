//! Whether topics are still as the manifest says, for those who look: nothing is done about it here. `clickstream setup` puts
//! right what can be put right, and whoever runs it again is told what it would do.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crds::Checked;
use prometheus::IntGauge;

use super::{
    admin::Admin,
    catalogue::{CatalogueFeed, agree, epochs},
    client::Cluster,
    context::is_news,
    names::Names,
    steps::{Step, TopicFact, decide},
    topics::{Care, TopicWish, wishes},
};
use crate::{
    ports::LogError,
    serve::{TopicDifference, TopicsLook},
};

/// How often brokers are asked, and how soon again where they did not answer.
const LOOK_EVERY: Duration = Duration::from_secs(20);
const TRY_EVERY: Duration = Duration::from_secs(2);

/// How long they may not answer until nobody knows any more: brokers restart one after the other.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// How long the thread waits before it looks whether it should end.
const WAIT: Duration = Duration::from_millis(200);

/// Looks at the topics of a pipeline.
pub struct Upkeep {
    admin: Admin,
    catalogue: CatalogueFeed,
    checked: Checked,
}

impl Upkeep {
    /// Asks nobody yet. `checked` is settled.
    ///
    /// # Errors
    /// Where librdkafka refuses the configuration.
    pub fn open(cluster: &Cluster, names: &Names, checked: Checked) -> anyhow::Result<Self> {
        Ok(Self { admin: Admin::new(cluster)?, catalogue: CatalogueFeed::open(cluster, names)?, checked })
    }

    /// Looks until it is to stop; `found` and `count` have what the last look came to.
    pub fn run(mut self, found: &Mutex<TopicsLook>, count: &IntGauge, stop: &AtomicBool) {
        let tell = |look: TopicsLook| *found.lock().unwrap_or_else(PoisonError::into_inner) = look;
        let mut answered = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let until = match self.look() {
                Ok(differences) => {
                    differences.iter().map(|one| &one.what).filter(|what| is_news(what)).for_each(|what| {
                        tracing::warn!(what, "a topic is not as the manifest says");
                    });
                    answered = Instant::now();
                    count.set(differences.len() as i64);
                    tell(TopicsLook::Known(differences));
                    LOOK_EVERY
                }
                Err(error) => {
                    if answered.elapsed() >= SILENT_MAX {
                        tell(TopicsLook::Unknown(format!("{error:#}")));
                    }
                    TRY_EVERY
                }
            };
            let until = Instant::now() + until;
            while Instant::now() < until && !stop.load(Ordering::Acquire) {
                thread::park_timeout(WAIT);
            }
        }
    }

    /// What is otherwise than the manifest says.
    fn look(&mut self) -> anyhow::Result<Vec<TopicDifference>> {
        // Where its topic is gone, what was read of it before says what else there should be.
        let read = self.catalogue.look(WAIT);
        anyhow::ensure!(self.catalogue.is_whole(), "the catalogue is not read yet: {}", told(read));
        agree(&self.catalogue.catalogue, &self.checked)?;
        let epochs = epochs(&self.catalogue.catalogue, &self.checked)?;
        let wishes = wishes(&self.checked, &epochs);
        let names: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
        let facts = self.admin.facts(&names)?;
        let is_read = |topic: &str| self.checked.plan.topics.iter().any(|read| read.name == topic);
        Ok(differences(&wishes, &facts, is_read))
    }
}

fn told(read: Result<bool, LogError>) -> String {
    read.map_or_else(|error| error.to_string(), |_| "brokers do not answer".into())
}

/// What is otherwise than it was left by `setup`. A topic that is gone held what others rely on, unless nobody of the pipeline
/// reads it: then it is made again like any other.
fn differences(
    wishes: &[TopicWish],
    facts: &BTreeMap<String, TopicFact>,
    is_read: impl Fn(&str) -> bool,
) -> Vec<TopicDifference> {
    // Without the mark of the pipeline, every topic would seem to be somebody else's.
    let is_gone = |wish: &&TopicWish| !facts.contains_key(&wish.name);
    let mark = wishes.first().filter(is_gone).map(std::slice::from_ref);
    let told = |step: Step| {
        let (topic, what, by_hand) = match &step {
            Step::Create(wish) if wish.care == Care::Own || is_read(&wish.name) => {
                let name = &wish.name;
                (name, format!("{name}: is gone, and what it held; to start over, change the pipeline's name"), true)
            }
            Step::Create(TopicWish { name, .. })
            | Step::Grow { name, .. }
            | Step::Alter { name, .. }
            | Step::Copy { name, .. }
            | Step::Refuse { name, .. } => (name, step.to_string(), step.is_by_hand()),
        };
        TopicDifference { topic: topic.clone(), what, by_hand }
    };
    decide(mark.unwrap_or(wishes), facts).into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_gone_is_made_again_only_where_nobody_reads_it() {
        let wish = |name: &str, care: Care| TopicWish {
            name: name.into(),
            partitions: 2,
            care,
            replication: None,
            settings: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
            at_first: BTreeMap::new(),
        };
        let all = [
            wish("mark", Care::Own),
            wish("raw", Care::Managed),
            wish("unread", Care::Managed),
            wish("alerts", Care::Shared),
            wish("results", Care::Own),
        ];
        let fact = |retention: &str| TopicFact {
            partitions: 2,
            copies: 1,
            settings: BTreeMap::from([("retention.ms".to_owned(), retention.to_owned())]),
        };
        let told = |facts: &[(&str, &str)]| -> Vec<(String, bool)> {
            let facts = facts.iter().map(|(name, retention)| ((*name).to_owned(), fact(retention))).collect();
            differences(&all, &facts, |topic| topic == "raw").into_iter().map(|one| (one.topic, one.by_hand)).collect()
        };
        let said = |name: &str, by_hand: bool| (name.to_owned(), by_hand);
        assert_eq!(told(&all.each_ref().map(|wish| (wish.name.as_str(), "1000"))), []);
        assert_eq!(
            told(&[("mark", "1000")]),
            [said("raw", true), said("unread", false), said("alerts", false), said("results", true)]
        );
        // Without its mark, nobody says that the others are somebody else's.
        assert_eq!(told(&[("raw", "7"), ("results", "1000")]), [said("mark", true)]);
        let others = [("mark", "1000"), ("raw", "7"), ("unread", "1000"), ("alerts", "7"), ("results", "7")];
        assert_eq!(told(&others), [said("raw", false), said("results", false)]);
    }
}
