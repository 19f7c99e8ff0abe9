//! What state weighs: bytes of a remembered id, seconds to restore groups from a checkpoint.

use std::{sync::Arc, time::Instant};

use engine::{
    batch::RawBatch,
    codec::Corrupt,
    map::{MapContext, MapTask},
    merge::MergeTask,
    output::{Output, Source},
    plan::Plan,
};

use super::{generator::Records, meter};

/// Feeds MAP and drops what it makes, so that what is left is what it remembers. Returns ids and bytes.
#[must_use]
pub fn remembered_ids(plan: &Arc<Plan>, context: &Arc<MapContext>, records: &Records) -> (u64, u64) {
    let mut map = MapTask::new(plan.clone(), context.clone(), Source { topic: 0, partition: 0 });
    let (mut batch, mut output) = (RawBatch::default(), Output::default());
    let mut feed = |map: &mut MapTask, from: usize, until: usize| {
        batch.clear();
        (from..until).for_each(|at| batch.push(records.payload(at), at as u64, i64::MAX / 2));
        map.process(&mut batch);
        output.clear();
        map.flush(&mut output);
    };
    // Warm up: buffers for batches are not memory for ids.
    feed(&mut map, 0, 4_096.min(records.len()));
    let before = meter::resident_bytes();
    for from in (4_096..records.len()).step_by(4_096) {
        feed(&mut map, from, (from + 4_096).min(records.len()));
    }
    // Of a hundred events one repeats and half of one is invalid: the others' ids are new.
    let ids = (records.len().saturating_sub(4_096)) as u64 * 985 / 1_000;
    (ids, meter::resident_bytes().saturating_sub(before))
}

/// Takes snapshots, drops the tasks, and restores them. Returns groups and seconds of wall time.
///
/// # Errors
/// If a snapshot cannot be read.
pub fn restore(plan: &Arc<Plan>, merges: Vec<MergeTask>) -> Result<(usize, f64), Corrupt> {
    let mut snapshots = Vec::new();
    let (mut output, mut groups_before) = (Output::default(), 0);
    for mut merge in merges {
        merge.flush_all(&mut output);
        groups_before += merge.groups().iter().sum::<usize>();
        let mut bytes = Vec::new();
        merge.snapshot(&mut bytes);
        snapshots.push(bytes);
    }
    let clock = Instant::now();
    let mut groups = 0;
    for (partition, bytes) in snapshots.iter().enumerate() {
        let merge = MergeTask::restore(plan.clone(), partition as u32, bytes)?;
        groups += merge.groups().iter().sum::<usize>();
    }
    let seconds = clock.elapsed().as_secs_f64();
    if groups == groups_before { Ok((groups, seconds)) } else { Err(Corrupt("other groups than before")) }
}
