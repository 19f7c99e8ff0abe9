//! A share's inlet on a thread of its own: a commit is handed over and waited for with the next one of the same share, so
//! that those of other shares go on meanwhile.

use std::time::Duration;

use engine::time::Millis;

use super::{aside::Aside, inlet::KafkaInlet};
use crate::ports::{IngestLog as _, IngestRecord, LogError, Low};

/// Records and progress that are committed together, copied: whoever made them goes on.
#[derive(Default)]
struct Parcel {
    bytes: Vec<u8>,
    /// Topic as an index, partition, where the payload ends, and up to which time all have written.
    records: Vec<(usize, u32, usize, Option<Millis>)>,
    topics: Vec<String>,
    /// The field of these times.
    field: String,
    progress: Vec<u8>,
}

impl Parcel {
    fn fill(&mut self, records: &[IngestRecord<'_>], progress: &[u8]) {
        self.bytes.clear();
        self.records.clear();
        for record in records {
            let topic = self.topics.iter().position(|topic| topic == record.topic).unwrap_or_else(|| {
                self.topics.push(record.topic.to_owned());
                self.topics.len() - 1
            });
            self.bytes.extend_from_slice(record.payload);
            if let Some(low) = record.low.filter(|low| low.field != self.field) {
                self.field = low.field.to_owned();
            }
            self.records.push((topic, record.partition, self.bytes.len(), record.low.map(|low| low.time)));
        }
        self.progress.clear();
        self.progress.extend_from_slice(progress);
    }

    fn records(&self) -> Vec<IngestRecord<'_>> {
        let mut start = 0;
        let record = |(topic, partition, end, low): &(usize, u32, usize, Option<Millis>)| {
            let payload = &self.bytes[start..*end];
            start = *end;
            let low = low.map(|time| Low { field: &self.field, time });
            IngestRecord { topic: &self.topics[*topic], partition: *partition, payload, low }
        };
        self.records.iter().map(record).collect()
    }
}

/// The way to a share's inlet.
pub(super) struct Courier {
    /// Committed last, as far as it was heard.
    progress: Option<Vec<u8>>,
    /// None while a commit is under way.
    idle: Option<Parcel>,
    aside: Aside<Parcel, Parcel>,
}

impl Courier {
    /// Starts the thread of the share `name`.
    pub(super) fn start(name: String, mut inlet: KafkaInlet) -> Result<Self, LogError> {
        let progress = inlet.progress(&name)?;
        let commit = move |parcel: Parcel| {
            inlet.commit(&name, &parcel.records(), &parcel.progress)?;
            Ok(parcel)
        };
        Ok(Self { progress, idle: Some(Parcel::default()), aside: Aside::start("share", commit)? })
    }

    /// What was committed last; after [`Courier::settle`] nothing is under way.
    pub(super) fn progress(&self) -> Option<&Vec<u8>> {
        self.progress.as_ref()
    }

    /// Waits for the commit that is under way, at most for so long; whether it has ended. An error means that it, and nothing
    /// after it, counts.
    pub(super) fn settle(&mut self, limit: Duration) -> Result<bool, LogError> {
        let parcel = self.aside.wait(limit)?;
        self.hear(parcel);
        Ok(!self.aside.is_busy())
    }

    fn hear(&mut self, parcel: Option<Parcel>) {
        if let Some(parcel) = parcel {
            self.progress = Some(parcel.progress.clone());
            self.idle = Some(parcel);
        }
    }

    /// Hands a commit over; the one before must have [`settled`](Self::settle).
    pub(super) fn send(&mut self, records: &[IngestRecord<'_>], progress: &[u8]) -> Result<(), LogError> {
        let mut parcel = self.idle.take().ok_or(LogError::Closed)?;
        parcel.fill(records, progress);
        self.aside.give(parcel)
    }
}
