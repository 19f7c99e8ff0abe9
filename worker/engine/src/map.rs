//! MAP: one task for each raw partition. Raw records in, partial results out.
//!
//! The state is a pure function of the partition's prefix: watermark, remembered ids, ledger. What waits for the
//! next commit (partial aggregates, dead letters, silver) is output, not state: after a crash it is made again from
//! the records behind the committed offset.

mod quality;
mod stream;

use std::sync::Arc;

use crate::{
    batch::RawBatch,
    codec::{Corrupt, Reader, put_u64},
    lookup::LookupTable,
    output::{Output, Row, Source, SystemTable},
    plan::Plan,
    repaired,
    shuffle::{Channel, Mark, Origin, write_messages},
    time::Millis,
    value::Value,
};
use stream::StreamTask;
pub(crate) use stream::operator_name;

/// Version of the snapshot format: the second where a watermark is bounded, so that the way back to an earlier program is open
/// for all others.
const VERSIONS: [u8; 2] = [1, 2];

/// What a MAP task reads besides its plan.
pub struct MapContext {
    /// Lookup tables, in plan order.
    pub lookups: Vec<LookupTable>,
    /// Key of the hash that hides `hashed` fields.
    pub hash_key: [u8; 32],
}

/// The task of one raw partition.
pub struct MapTask {
    plan: Arc<Plan>,
    source: Source,
    position: u64,
    streams: Vec<StreamTask>,
    /// Position at the last flush: where the next message's span begins.
    flushed: u64,
    /// Marks of the last flush, to see whether there is news.
    told: Vec<Mark>,
    /// Reused when repaired records are sorted by stream.
    sorted: RawBatch,
}

impl MapTask {
    /// Makes the task of a partition that nothing was read from.
    #[must_use]
    pub fn new(plan: Arc<Plan>, context: Arc<MapContext>, source: Source) -> Self {
        let reads = |stream: usize| {
            source.topic == Source::REPAIRED || plan.streams[stream].topics.contains(&(source.topic as usize))
        };
        let streams = (0..plan.streams.len()).filter(|stream| reads(*stream));
        let streams = streams.map(|stream| StreamTask::new(&plan, &context, source, stream)).collect();
        Self { plan, source, position: 0, streams, flushed: 0, told: Vec::new(), sorted: RawBatch::default() }
    }

    /// Reads a batch and moves the position behind its last record.
    ///
    /// # Panics
    /// If the batch does not begin at or behind the position: drivers read in order.
    pub fn process(&mut self, batch: &mut RawBatch) {
        let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else { return };
        assert!(first.offset >= self.position, "bug: batch at {} but position {}", first.offset, self.position);
        self.position = last.offset + 1;
        if self.source.topic == Source::REPAIRED {
            return self.process_repaired(batch);
        }
        self.streams.iter_mut().for_each(|stream| stream.process(batch));
    }

    /// Repaired records say before their bytes which stream refused them.
    fn process_repaired(&mut self, batch: &RawBatch) {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            self.sorted.clear();
            for record in &batch.records {
                match repaired::read(batch.payload(record)) {
                    Ok((of, payload)) if of.is(&self.plan.streams[at].name, at) => {
                        self.sorted.push(payload, record.offset, record.arrival);
                    }
                    _ => {}
                }
            }
            stream.process(&mut self.sorted);
        }
    }

    /// Jumps over records that retention deleted before they were read; they count as expired.
    pub fn skip_to(&mut self, offset: u64) {
        let gone = offset.saturating_sub(self.position);
        self.streams.iter_mut().for_each(|stream| stream.expire(gone));
        self.position = self.position.max(offset);
    }

    /// Marks the partition idle until its next record. The caller saw that the position is the log's end and has been so
    /// for the stream's `idle_after_ms` at the arrival clock `now`.
    pub fn mark_idle(&mut self, now: Millis) {
        self.streams.iter_mut().for_each(|stream| stream.mark_idle(now));
    }

    /// Ends the partition: a bounded source was read completely, every window may close.
    pub fn finish(&mut self) {
        self.streams.iter_mut().for_each(StreamTask::finish);
    }

    /// The next offset to read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves everything since the last flush into `output`, which the caller commits together with the position.
    pub fn flush(&mut self, output: &mut Output) {
        output.shuffle.resize_with(self.plan.shuffle_partitions as usize, Vec::new);
        let marks = self.marks();
        let news = marks != self.told;
        self.streams.iter_mut().for_each(StreamTask::seal);
        let sections = self.streams.iter().flat_map(StreamTask::sections);
        let span = self.flushed..self.position;
        write_messages(Origin::Map(self.source), span, &marks, sections, news, &mut output.shuffle);
        for (at, stream) in self.streams.iter_mut().enumerate() {
            if marks.get(at) != self.told.get(at) {
                output.rows.extend(marks.get(at).map(|mark| watermark_row(&self.plan, self.source, mark)));
            }
            stream.drain(&self.plan, output);
        }
        self.told = marks;
        self.flushed = self.position;
    }

    /// Forgets what a flush would bring: after a replay up to the committed offset, where it was committed already.
    pub fn discard(&mut self) {
        self.streams.iter_mut().for_each(StreamTask::discard);
        self.flushed = self.position;
    }

    /// Appends the state. Only right after a flush or discard: what waits for a commit is not state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        assert_eq!(self.flushed, self.position, "bug: snapshot between commits");
        out.push(VERSIONS[usize::from(self.streams.iter().any(StreamTask::is_bounded))]);
        put_u64(self.position, out);
        self.streams.iter().for_each(|stream| stream.snapshot(out));
    }

    /// Makes a task from what [`MapTask::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes or another version.
    pub fn restore(plan: Arc<Plan>, context: Arc<MapContext>, source: Source, bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        if !VERSIONS.contains(&reader.u8()?) {
            return Err(Corrupt("another version of the MAP snapshot"));
        }
        let mut task = Self::new(plan, context, source);
        task.position = reader.u64()?;
        task.flushed = task.position;
        task.streams.iter_mut().try_for_each(|stream| stream.restore(&mut reader))?;
        if reader.is_empty() { Ok(task) } else { Err(Corrupt("bytes behind the end")) }
    }

    fn marks(&self) -> Vec<Mark> {
        if self.source.topic == Source::REPAIRED {
            return Vec::new();
        }
        let mark = |stream: &StreamTask| {
            let (watermark, idle) = stream.claim();
            Mark { channel: Channel::Stream(stream.index()), watermark, idle }
        };
        self.streams.iter().map(mark).collect()
    }
}

fn watermark_row(plan: &Plan, source: Source, mark: &Mark) -> Row {
    let stream = match mark.channel {
        Channel::Stream(stream) => plan.streams[stream].name.as_str(),
        Channel::Join(_) | Channel::Funnel(_) => unreachable!("bug: MAP speaks about streams only"),
    };
    let task = format!("map:{}", source.name(plan));
    system_row(plan, SystemTable::Watermarks, &[stream, &task], vec![time_value(mark.watermark)])
}

/// A watermark as people may read it: null before there is one and after the end.
pub(crate) fn time_value(watermark: Millis) -> Value {
    let known = (0..=crate::time::TIME_MAX).contains(&watermark);
    if known { Value::Timestamp(watermark) } else { Value::Null }
}

/// A row of an unwindowed system table.
pub(crate) fn system_row(plan: &Plan, table: SystemTable, group: &[&str], values: Vec<Value>) -> Row {
    let group = group.iter().map(|text| Value::String((*text).into())).collect();
    Row { table: table.index(plan), window: None, group, values, is_final: false, deleted: false }
}
