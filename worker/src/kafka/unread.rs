//! What there is to read of partitions up to where they end at one moment.
//!
//! An event about a partition's end is not enough to go by: librdkafka makes one where a fetch comes back empty, and on a
//! topic that is written to more often than a fetch waits none ever does.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaResult,
    message::BorrowedMessage,
};

/// How long the first question for an end waits, and the longest any does: each waits twice as long as the one before. It may
/// be on its way to a leader that is gone, and would wait there for as long as it is let; brokers may also be slow.
const ASK_TIME: Duration = Duration::from_millis(500);
const ASK_TIME_MAX: Duration = Duration::from_secs(2);

/// Offsets at a partition's end that may be markers of transactions: nobody reads them.
pub(super) const MARKERS_MAX: i64 = 16;

/// Pause before a question is asked again that nobody could answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The first offset of a partition that is there, and the one behind the last that this consumer may read: asked once, in a
/// moment. An error makes librdkafka look who leads the partition now.
pub(super) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> KafkaResult<(i64, i64)> {
    ask(consumer, topic, partition, ASK_TIME)
}

/// The same, asked until `limit` has passed: while leadership moves, brokers do not answer, or say at once that they do not
/// know.
pub(super) fn watermarks_within<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    limit: Duration,
) -> KafkaResult<(i64, i64)> {
    let (deadline, mut patience) = (Instant::now() + limit, ASK_TIME);
    loop {
        match ask(consumer, topic, partition, patience) {
            Err(_) if Instant::now() < deadline => std::thread::park_timeout(ASK_AGAIN),
            answer => return answer,
        }
        patience = longer(patience);
    }
}

fn ask<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    patience: Duration,
) -> KafkaResult<(i64, i64)> {
    consumer.fetch_watermarks(topic, partition, patience).inspect_err(|_| {
        // What it says is for librdkafka's own memory.
        drop(consumer.fetch_metadata(Some(topic), ASK_TIME));
    })
}

fn longer(patience: Duration) -> Duration {
    (patience * 2).min(ASK_TIME_MAX)
}

/// Partitions whose end, as it was when that was asked, is not reached yet.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// By partition and topic the offset behind the last committed record; nothing until somebody said so. What lies right
    /// before it may be a marker, which nobody reads.
    ends: Option<BTreeMap<i32, BTreeMap<String, i64>>>,
    /// Events about ends, by partition: they do not tell the topic, and may come before the answer.
    events: BTreeMap<i32, usize>,
    /// How long each question waits, once one was not answered.
    patience: Option<Duration>,
}

impl Unread {
    /// Asks where `places` end now. Where somebody does not answer, nothing is known: ask again, which takes longer.
    pub(super) fn ask<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        places: impl IntoIterator<Item = (String, i32)>,
    ) -> KafkaResult<()> {
        let patience = self.patience.unwrap_or(ASK_TIME);
        self.patience = Some(longer(patience));
        let end = |(topic, partition): (String, i32)| {
            let (start, end) = ask(consumer, &topic, partition, patience)?;
            Ok((topic, partition, start..end))
        };
        self.know(places.into_iter().map(end).collect::<KafkaResult<Vec<_>>>()?);
        Ok(())
    }

    /// Somebody has said which offsets there are of topics and partitions.
    pub(super) fn know(&mut self, places: impl IntoIterator<Item = (String, i32, Range<i64>)>) {
        let mut ends: BTreeMap<i32, BTreeMap<String, i64>> = BTreeMap::new();
        for (topic, partition, there) in places.into_iter().filter(|(.., there)| !there.is_empty()) {
            ends.entry(partition).or_default().insert(topic, there.end);
        }
        self.ends = Some(ends);
        self.events.keys().copied().collect::<Vec<_>>().into_iter().for_each(|partition| self.settle(partition));
    }

    /// Whether somebody has said where partitions end.
    pub(super) fn is_known(&self) -> bool {
        self.ends.is_some()
    }

    /// Whether everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// Nothing of a partition before `offset` is of interest.
    pub(super) fn begins(&mut self, topic: &str, partition: i32, offset: i64) {
        let Some(ends) = &mut self.ends else { return };
        let Some(topics) = ends.get_mut(&partition) else { return };
        if topics.get(topic).is_some_and(|end| offset >= *end) {
            topics.remove(topic);
            if topics.is_empty() {
                ends.remove(&partition);
            }
        }
    }

    /// A record was read; whether it is of interest: it was there when the ends were asked, or may have been.
    pub(super) fn read(&mut self, message: &BorrowedMessage<'_>) -> bool {
        let Some(ends) = &self.ends else { return true };
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        let end = ends.get(&partition).and_then(|topics| topics.get(topic)).copied();
        self.begins(topic, partition, offset + 1);
        end.is_some_and(|end| offset < end)
    }

    /// librdkafka says that a partition has no more at the moment.
    pub(super) fn ended(&mut self, partition: i32) {
        *self.events.entry(partition).or_default() += 1;
        self.settle(partition);
    }

    /// Where several topics have such a partition, all of them must have ended.
    fn settle(&mut self, partition: i32) {
        let Some(ends) = &mut self.ends else { return };
        if ends.get(&partition).is_some_and(|topics| self.events.get(&partition) >= Some(&topics.len())) {
            ends.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(ends: &[(&str, i32, i64)]) -> Unread {
        let mut unread = Unread::default();
        unread.know(ends.iter().map(|(topic, partition, end)| ((*topic).to_owned(), *partition, 0..*end)));
        unread
    }

    #[test]
    fn an_end_is_reached_by_what_lies_before_it_or_behind() {
        let mut left = unread(&[("a", 0, 10), ("a", 1, 10), ("a", 2, 10)]);
        left.begins("a", 0, 9);
        left.begins("a", 1, 10);
        left.begins("a", 2, 12);
        assert!(!left.is_empty());
        left.ended(0);
        assert!(left.is_empty());
    }

    #[test]
    fn an_event_that_may_be_about_two_topics_waits_for_the_other() {
        let mut left = unread(&[("a", 0, 10), ("b", 0, 10), ("b", 1, 10)]);
        left.ended(1);
        left.ended(0);
        assert!(!left.is_empty());
        left.ended(0);
        assert!(left.is_empty());
    }

    #[test]
    fn nothing_is_read_before_it_is_known_what_there_is() {
        let mut left = Unread::default();
        left.ended(0);
        assert!(!left.is_empty() && !left.is_known());
        left.know([("a".to_owned(), 0, 0..10), ("a".to_owned(), 1, 5..5)]);
        assert!(left.is_empty());
    }
}
