//! What a member of a sink's group asks Kafka besides records: how far the group is, and whether anything is left out.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{TopicPartitionList, consumer::Consumer as _, error::KafkaResult};

use super::{
    Member,
    files::{Offsets, Positions},
    turns::Silent,
};
use crate::{
    kafka::{
        client::{REQUEST_TIME_MAX, failed},
        context::is_news,
        unread::{MARKERS_MAX, watermarks},
    },
    sink::limits::LOOK_EVERY,
};

/// How long a question to Kafka may take that nothing can go on without: less than the group waits for a member to poll.
const INSIST_TIME_MAX: Duration = Duration::from_secs(240);

/// How long a partition that has something may give nothing: with the time to join anew, less than a recovery may take.
const SILENCE_MAX: Duration = Duration::from_secs(15);

impl Member<'_> {
    /// Whether a partition of ours gives nothing although it has something: librdkafka may be told of no offset where a broker
    /// that is just going away answers, and never asks again. Another session does; once for the same offsets, because nobody
    /// can tell records from the remains of transactions.
    pub(super) fn is_left_out(&mut self) -> bool {
        if self.given_at.elapsed() < SILENCE_MAX {
            return false;
        }
        self.given_at = Instant::now();
        let Ok(silent) = self.silent() else { return false };
        let is_news = !silent.is_empty() && silent != self.turns.silent;
        if is_news {
            tracing::warn!(?silent, "partitions give nothing although they have something; joining the group anew");
        }
        self.turns.silent = silent;
        is_news
    }

    fn silent(&self) -> KafkaResult<Silent> {
        let mut asked = TopicPartitionList::new();
        let positions = self.consumer.position()?;
        for place in positions.elements().iter().filter(|place| place.offset().to_raw().is_none_or(|at| at < 0)) {
            asked.add_partition(place.topic(), place.partition());
        }
        let mut silent = Silent::new();
        if asked.count() > 0 {
            for place in self.consumer.committed_offsets(asked, REQUEST_TIME_MAX)?.elements() {
                let (start, end) = watermarks(&self.consumer, place.topic(), place.partition())?;
                let from = place.offset().to_raw().unwrap_or_default().max(start);
                if end - from > MARKERS_MAX {
                    silent.push((place.topic().to_owned(), place.partition(), from));
                }
            }
        }
        Ok(silent)
    }

    /// Whether a topic of results is ours, and written but for what may be markers of transactions.
    pub(super) fn has_written(&self, topic: &str) -> bool {
        let is_ours = self.consumer.assignment().is_ok_and(|given| given.find_partition(topic, 0).is_some());
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let written = || {
            let told = self.consumer.committed_offsets(asked, REQUEST_TIME_MAX).ok()?;
            let committed = told.find_partition(topic, 0)?.offset().to_raw().filter(|offset| *offset >= 0);
            let (start, end) = watermarks(&self.consumer, topic, 0).ok()?;
            Some(end - committed.unwrap_or(start) <= MARKERS_MAX)
        };
        is_ours && written() == Some(true)
    }

    /// Takes a question to Kafka until it is answered, or [`INSIST_TIME_MAX`] has passed.
    ///
    /// # Errors
    /// The last answer that was none.
    fn insist<T>(&self, what: &'static str, ask: impl Fn() -> KafkaResult<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + INSIST_TIME_MAX;
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() > deadline => return Err(failed(what, &self.group, error).into()),
                Err(error) if is_news(&format!("{what}: {error}")) => tracing::warn!(%error, "waiting for Kafka"),
                Err(_) => thread::park_timeout(LOOK_EVERY),
            }
        }
    }
}

impl Positions for Member<'_> {
    fn committed(&self, topic: &str, partition: i32) -> anyhow::Result<Option<u64>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let ask = || {
            let told = self.consumer.committed_offsets(asked.clone(), REQUEST_TIME_MAX)?;
            // Nobody says one is not the same as there is none.
            told.elements().iter().try_for_each(|place| place.error())?;
            Ok(told)
        };
        let told = self.insist("ask for offsets of", ask)?;
        let offset = told.find_partition(topic, partition).and_then(|found| found.offset().to_raw());
        Ok(offset.and_then(|offset| u64::try_from(offset).ok()))
    }

    fn write_down(&self, topic: &str, partition: i32, offset: u64) -> bool {
        self.commit(&Offsets::from([((topic.to_owned(), partition), offset)]))
    }

    fn group(&self) -> &str {
        &self.group
    }
}
