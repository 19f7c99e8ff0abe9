//! Tables computed again from the raw records of a log, in one thread, with nothing in memory but the tasks' state.

use std::sync::Arc;

use engine::{
    batch::RawBatch,
    map::{MapContext, MapTask},
    output::{Output, Row, Source, TableSchema, schemas},
    plan::Plan,
    time::Millis,
};

use crate::{
    driver::Layout,
    history::stage::Stage,
    log::EmbeddedLog,
    ports::{Log, LogError, PROCESS, TopicPartition},
    store::{ResultRecord, TableStore},
};

/// Bytes of a partition that are read at a time: partitions take turns by the arrival of what comes next.
const READ_BYTES: usize = 256 << 10;

/// Batches between two looks at what MERGE has to say.
const FLUSH_EVERY: usize = 16;

/// Computes all tables of `plan` from what was processed of the log; the tables lie in a temporary file.
///
/// # Errors
/// Where the log cannot be read, or the tables cannot be written.
pub(super) fn recompute(
    log: &EmbeddedLog,
    layout: &Layout,
    plan: &Arc<Plan>,
    context: &Arc<MapContext>,
) -> anyhow::Result<TableStore> {
    let mut inputs = Vec::new();
    for source in sources(plan) {
        let at = layout.source(source);
        let end = log.position(PROCESS, at)?.unwrap_or(0);
        let task = MapTask::new(Arc::clone(plan), Arc::clone(context), source);
        let mut input = Input { at, end, task, batch: RawBatch::default() };
        input.read(log)?;
        inputs.push(input);
    }
    let mut stage = Stage::new(plan);
    let mut tables = Tables { schemas: schemas(plan), store: TableStore::open(None, plan)?, next: 0 };
    let mut write = |rows: &[Row]| tables.write(rows);
    let mut output = Output::default();
    for turn in 1.. {
        let next = (0..inputs.len()).filter_map(|at| Some((inputs[at].arrival()?, at))).min();
        let Some((_, at)) = next else { break };
        let input = &mut inputs[at];
        input.task.process(&mut input.batch);
        input.task.flush(&mut output);
        stage.take(&mut output, &mut write)?;
        input.read(log)?;
        if turn % FLUSH_EVERY == 0 {
            stage.flush(&mut write)?;
        }
    }
    for input in &mut inputs {
        input.task.finish();
        input.task.flush(&mut output);
        stage.take(&mut output, &mut write)?;
    }
    while stage.flush(&mut write)? {}
    Ok(tables.store)
}

fn sources(plan: &Plan) -> Vec<Source> {
    let raw =
        plan.topics.iter().enumerate().flat_map(|(topic, plan)| {
            (0..plan.partitions).map(move |partition| Source { topic: topic as u32, partition })
        });
    raw.chain([Source { topic: Source::REPAIRED, partition: 0 }]).collect()
}

/// A partition, its task, and the batch that comes next.
struct Input {
    at: TopicPartition,
    end: u64,
    task: MapTask,
    batch: RawBatch,
}

impl Input {
    fn read(&mut self, log: &EmbeddedLog) -> Result<(), LogError> {
        self.batch.clear();
        log.read(self.at, self.task.position()..self.end, READ_BYTES, &mut self.batch)?;
        let first = self.batch.records.first().map(|record| record.offset);
        if let Some(first) = first.filter(|first| *first > self.task.position()) {
            self.task.skip_to(first);
        }
        Ok(())
    }

    fn arrival(&self) -> Option<Millis> {
        self.batch.records.first().map(|record| record.arrival)
    }
}

/// The tables, and how rows come there.
struct Tables {
    schemas: Vec<TableSchema>,
    store: TableStore,
    /// Offset of the next result.
    next: u64,
}

impl Tables {
    fn write(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let written = rows.iter().map(|row| {
            let (mut key, mut document) = (Vec::new(), Vec::new());
            row.write_key(&self.schemas[row.table], &mut key);
            row.write_document(&self.schemas[row.table], &mut document);
            (key, document)
        });
        let written: Vec<(Vec<u8>, Vec<u8>)> = written.collect();
        let records =
            written.iter().zip(self.next..).map(|((key, document), offset)| ResultRecord { offset, key, document });
        self.store.apply(&records.collect::<Vec<_>>())?;
        self.next += rows.len() as u64;
        Ok(())
    }
}
