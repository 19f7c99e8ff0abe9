//! Dead letters of a fleet: read from their topic, replayed by one transaction into that of repaired records.

use std::ops::Range;

use rdkafka::{Message as _, Offset};

use super::{
    compacted::{Flow, read_all, read_from},
    feed::Feed,
    inlet::{KafkaInlet, Wire},
    tailing::Fleet,
};
use crate::{
    dead_letters::{LetterStore, MARKS, Replaying},
    ports::{IngestLog as _, IngestRecord, LogError, Records},
};

/// The letters of a fleet's pipeline.
pub struct KafkaLetters(pub Fleet);

impl LetterStore for KafkaLetters {
    fn numbers(&self) -> Result<Range<u64>, LogError> {
        Feed::open(&self.0.cluster, &self.0.names.dead_letters(), 0, 0)?.offsets()
    }

    fn scan(&self, first: u64, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), LogError> {
        let numbers = self.numbers()?;
        let first = first.max(numbers.start);
        if first >= numbers.end {
            return Ok(());
        }
        let topic = self.0.names.dead_letters();
        read_from(&self.0.cluster, &topic, &[0], Offset::Offset(first as i64), |message| {
            let Some(letter) = message.payload() else { return Flow::On };
            if each(message.offset() as u64, letter) { Flow::On } else { Flow::Stop }
        })
    }

    fn record(&self, topic: &str, partition: u32, offset: u64) -> Result<Option<Vec<u8>>, LogError> {
        let is_raw = self.0.plan.topics.iter().any(|known| known.name == topic);
        let topic = if is_raw { topic.to_owned() } else { self.0.names.repaired() };
        let there = Feed::open(&self.0.cluster, &topic, partition, 0)?.offsets()?;
        if !there.contains(&offset) {
            return Ok(None);
        }
        let mut found = None;
        read_from(&self.0.cluster, &topic, &[partition], Offset::Offset(offset as i64), |message| {
            found = message.payload().filter(|_| message.offset() as u64 == offset).map(<[u8]>::to_vec);
            Flow::Stop
        })?;
        Ok(found)
    }

    fn marks(&self) -> Result<Option<Vec<u8>>, LogError> {
        let mut marks = None;
        read_all(&self.0.cluster, &self.0.names.progress(), &[0], |_, key, value| {
            if key == MARKS.as_bytes() {
                marks = value.map(<[u8]>::to_vec);
            }
        })?;
        Ok(marks)
    }

    /// Fences a replay that is under way elsewhere.
    fn begin(&self) -> Result<Box<dyn Replaying + '_>, LogError> {
        let Fleet { cluster, names, .. } = &self.0;
        let inlet = KafkaInlet::connect(cluster, names, &names.replay_transaction(), Wire::default())?;
        Ok(Box::new(Replay { inlet, topic: names.repaired() }))
    }
}

struct Replay {
    inlet: KafkaInlet,
    topic: String,
}

impl Replaying for Replay {
    fn marks(&self) -> Result<Option<Vec<u8>>, LogError> {
        self.inlet.progress(MARKS)
    }

    fn commit(&mut self, records: &Records, marks: &[u8]) -> Result<(), LogError> {
        let mut rest = &records.bytes[..];
        let mut outgoing = Vec::with_capacity(records.lengths.len());
        for length in &records.lengths {
            let (payload, behind) = rest.split_at(*length as usize);
            outgoing.push(IngestRecord { topic: &self.topic, partition: 0, payload, low: None });
            rest = behind;
        }
        self.inlet.commit(MARKS, &outgoing, marks)
    }
}
