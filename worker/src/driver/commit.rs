//! From a task's output to one commit of the log.

use std::{collections::BTreeMap, time::Instant};

use engine::output::Output;

use super::Shared;
use crate::{
    log::record::{write_dead_letter, write_result, write_silver},
    metrics::Stage,
    ports::{Commit, Log, LogError, PROCESS, Position, Records, TopicPartition},
};

/// Commits `output` together with the task's position in `input`.
pub(super) fn commit(
    shared: &Shared,
    stage: Stage,
    output: &mut Output,
    input: TopicPartition,
    next: u64,
) -> Result<(), LogError> {
    let began = Instant::now();
    let layout = &shared.layout;
    let mut appends: BTreeMap<TopicPartition, Records> = BTreeMap::new();
    for (partition, message) in output.shuffle.iter().enumerate().filter(|(_, message)| !message.is_empty()) {
        appends.entry(layout.shuffle(partition as u32)).or_default().push(message);
    }
    let mut key = Vec::new();
    for row in &output.rows {
        let records = appends.entry(layout.results()).or_default();
        records.push_with(|out| write_result(row, &shared.schemas[row.table], &mut key, out));
    }
    for letter in &output.dead_letters {
        let records = appends.entry(layout.dead_letters()).or_default();
        records.push_with(|out| write_dead_letter(letter, &shared.plan, out));
    }
    for event in &output.silver {
        let records = appends.entry(layout.silver(event.stream)).or_default();
        records.push_with(|out| write_silver(event, &shared.plan, out));
    }
    let appends: Vec<(TopicPartition, &Records)> = appends.iter().map(|(at, records)| (*at, records)).collect();
    let position = Some(Position { consumer: PROCESS, at: input, next });
    shared.log.commit(&Commit { appends: &appends, position, progress: None })?;
    output.dead_letters.iter().for_each(|letter| shared.metrics.dead_letter(&letter.reason));
    shared.metrics.commit(stage, output.rows.len(), began.elapsed());
    output.clear();
    Ok(())
}
