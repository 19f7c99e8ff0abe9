//! Judges repaired records before they are written: by the MAP task that will read them, with the same code.

use std::{collections::BTreeMap, sync::Arc};

use engine::{
    batch::RawBatch,
    decode::{Decoded, Decoder},
    lookup::LookupTable,
    map::{MapContext, MapTask},
    output::{Output, Source, SystemTable},
    plan::{Plan, StreamPlan},
    repaired,
    time::Millis,
    value::Value,
};

/// A task that has read nothing, in place of the one that will read the records.
pub(super) struct Judge {
    plan: Arc<Plan>,
    task: MapTask,
    next: u64,
    /// Counts so far: the ledger's only grow.
    filtered: BTreeMap<String, i64>,
    repeated: BTreeMap<usize, i64>,
}

/// What the stream says of a record.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is valid; these tables do not want it.
    Valid {
        /// Tables whose filter it does not pass.
        filtered: Vec<String>,
    },
    /// It has the id of a record that was judged before.
    Duplicate,
    /// It is refused: reason and detail.
    Refused(String, String),
}

impl Judge {
    pub fn new(plan: &Arc<Plan>) -> Self {
        // Lookups add columns that no rule reads.
        let lookups = plan.lookups.iter().map(|_| LookupTable::default()).collect();
        let context = Arc::new(MapContext { lookups, hash_key: [0; 32] });
        let source = Source { topic: Source::REPAIRED, partition: 0 };
        let task = MapTask::new(Arc::clone(plan), context, source);
        Self { plan: Arc::clone(plan), task, next: 0, filtered: BTreeMap::new(), repeated: BTreeMap::new() }
    }

    /// Judges a record of `stream` that arrives at `now`.
    pub fn judge(&mut self, stream: usize, payload: &[u8], now: Millis) -> Verdict {
        let mut record = Vec::with_capacity(payload.len() + 64);
        repaired::write(&self.plan.streams[stream].name, payload, &mut record);
        let mut batch = RawBatch::default();
        batch.push(&record, self.next, now);
        self.next += 1;
        self.task.process(&mut batch);
        let mut output = Output::default();
        self.task.flush(&mut output);
        if let Some(letter) = output.dead_letters.iter().find(|letter| letter.table.is_none()) {
            return Verdict::Refused(letter.reason.clone(), letter.detail.clone());
        }
        let rows = |table: SystemTable| {
            let at = table.index(&self.plan);
            output.rows.iter().filter(move |row| row.table == at)
        };
        let mut filtered = Vec::new();
        for row in rows(SystemTable::LedgerTables) {
            if let (Some(Value::String(table)), Some(Value::Integer(count))) = (row.group.first(), row.values.get(1)) {
                let before = self.filtered.insert(table.to_string(), *count).unwrap_or_default();
                filtered.extend((*count > before).then(|| table.to_string()));
            }
        }
        let repeated = rows(SystemTable::LedgerStreams).find_map(|row| match row.values.get(2) {
            Some(Value::Integer(count)) => Some(*count),
            _ => None,
        });
        let repeated = repeated.unwrap_or_default();
        let before = self.repeated.insert(stream, repeated).unwrap_or_default();
        if repeated > before { Verdict::Duplicate } else { Verdict::Valid { filtered } }
    }
}

/// Reads one field as its stream would: null where it is missing or cannot be converted.
pub(crate) struct FieldReader {
    decoder: Decoder,
    batch: RawBatch,
    decoded: Decoded,
}

impl FieldReader {
    pub fn new(stream: &StreamPlan, column: usize) -> Self {
        let mut field = stream.fields[column].clone();
        (field.required, field.hashed) = (false, false);
        let alone = StreamPlan { fields: vec![field], event_time: None, ..stream.clone() };
        let decoder = Decoder::new(&alone, &[0; 32]);
        Self { decoder, batch: RawBatch::default(), decoded: Decoded::default() }
    }

    /// The reader of the event time, if the stream has one.
    pub fn of_event_time(stream: &StreamPlan) -> Option<Self> {
        stream.event_time.as_ref().map(|time| Self::new(stream, time.column))
    }

    pub fn read(&mut self, payload: &[u8]) -> Value {
        self.batch.clear();
        self.batch.push(payload, 0, 0);
        self.decoder.decode(&mut self.batch, &mut self.decoded);
        match self.decoded.rows.is_empty() {
            true => Value::Null,
            false => self.decoded.columns[0].value(0, &self.batch.bytes),
        }
    }
}
