//! Checkpoints of older versions, kept for ever: each must go on as if it had never stopped.
//!
//! A folder holds what a version left: `manifest.yaml`, the records of each topic, and what the tasks' states were after
//! the first half of them. The rest of the records must then give the rows that a run without a break gives. A version
//! that can no longer read one has to say so in its notes, and its epoch has to be raised.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use engine::{
    batch::RawBatch,
    map::MapTask,
    merge::MergeTask,
    output::{Output, Row, Source},
    plan::Plan,
    value::Value,
};

use crate::{
    bench::generator::{self, Records},
    pipeline::{self, context},
};

/// Events in the records of a folder.
const EVENTS: u64 = 1_500;

/// Records between two flushes.
const BATCH: usize = 128;

/// A manifest with the records of its topics.
struct Input {
    plan: Arc<Plan>,
    topics: Vec<Records>,
}

impl Input {
    fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join("manifest.yaml")).context("failed to read the manifest")?;
        let plan = pipeline::plan_of_one(&text).map_err(anyhow::Error::msg)?;
        let topics = plan.topics.iter().map(|topic| {
            let bytes = fs::read(folder.join(format!("{}.jsonl.zst", topic.name)))?;
            let mut records = Records::default();
            for line in zstd::decode_all(&bytes[..])?.split_inclusive(|byte| *byte == b'\n') {
                records.bytes.extend_from_slice(&line[..line.len() - 1]);
                records.seal();
            }
            Ok(records)
        });
        let topics = topics.collect::<Result<_>>()?;
        Ok(Self { plan, topics })
    }
}

/// The tasks of a pipeline with one partition everywhere.
struct Tasks {
    maps: Vec<MapTask>,
    merge: MergeTask,
    next: u64,
    rows: Vec<Row>,
    output: Output,
}

impl Tasks {
    fn new(input: &Input) -> Self {
        let sources = (0..input.topics.len()).map(|topic| Source { topic: topic as u32, partition: 0 });
        let maps = sources.map(|source| MapTask::new(input.plan.clone(), context(), source)).collect();
        let merge = MergeTask::new(input.plan.clone(), 0);
        Self { maps, merge, next: 0, rows: Vec::new(), output: Output::default() }
    }

    fn restore(input: &Input, folder: &Path) -> Result<Self> {
        let read = |name: String| anyhow::Ok(zstd::decode_all(&fs::read(folder.join(name))?[..])?);
        let mut tasks = Self::new(input);
        for (at, map) in tasks.maps.iter_mut().enumerate() {
            let source = Source { topic: at as u32, partition: 0 };
            *map = MapTask::restore(input.plan.clone(), context(), source, &read(format!("map-{at}.zst"))?)?;
        }
        tasks.merge = MergeTask::restore(input.plan.clone(), 0, &read("merge.zst".into())?)?;
        tasks.next = tasks.merge.position();
        Ok(tasks)
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for (at, map) in self.maps.iter().enumerate() {
            bytes.clear();
            map.snapshot(&mut bytes);
            fs::write(folder.join(format!("map-{at}.zst")), zstd::encode_all(&bytes[..], 19)?)?;
        }
        bytes.clear();
        self.merge.snapshot(&mut bytes);
        Ok(fs::write(folder.join("merge.zst"), zstd::encode_all(&bytes[..], 19)?)?)
    }

    /// Reads one half of all records, in turns that are the same in every run.
    fn read(&mut self, input: &Input, half: usize) -> Result<()> {
        let mut batch = RawBatch::default();
        let rounds = input.topics.iter().map(Records::len).max().unwrap_or_default().div_ceil(BATCH);
        for round in 0..rounds {
            for (map, records) in self.maps.iter_mut().zip(&input.topics) {
                let (middle, len) = (records.len() / 2, records.len());
                let (from, until) = if half == 0 { (0, middle) } else { (middle, len) };
                let part = |round: usize| from + (until - from) * round / rounds;
                batch.clear();
                (part(round)..part(round + 1)).for_each(|at| batch.push(records.payload(at), at as u64, i64::MAX / 2));
                map.process(&mut batch);
            }
            self.commit()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.maps.iter_mut().for_each(MapTask::finish);
        self.commit()
    }

    /// Flushes until nothing new is said.
    fn commit(&mut self) -> Result<()> {
        for at in 0..self.maps.len() {
            self.output.clear();
            self.maps[at].flush(&mut self.output);
            self.deliver()?;
        }
        loop {
            let before = self.next;
            self.output.clear();
            self.merge.flush_all(&mut self.output);
            self.deliver()?;
            if self.next == before {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self) -> Result<()> {
        for message in self.output.shuffle.iter().filter(|message| !message.is_empty()) {
            self.merge.apply(self.next, message)?;
            self.next += 1;
        }
        self.rows.append(&mut self.output.rows);
        Ok(())
    }
}

/// Writes a folder of this version for a manifest.
///
/// # Errors
/// If it is there already, or cannot be written.
pub fn record(manifest: &str, folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    fs::write(folder.join("manifest.yaml"), manifest)?;
    for (topic, records) in
        [("events", &generator::events(EVENTS, 1)[0]), ("promotions", &generator::promotions(EVENTS))]
    {
        let mut lines = Vec::new();
        for at in 0..records.len() {
            lines.extend_from_slice(records.payload(at));
            lines.push(b'\n');
        }
        if manifest.contains(&format!("name: {topic}, partitions")) {
            fs::write(folder.join(format!("{topic}.jsonl.zst")), zstd::encode_all(&lines[..], 19)?)?;
        }
    }
    let input = Input::read(folder)?;
    let mut tasks = Tasks::new(&input);
    tasks.read(&input, 0)?;
    tasks.save(folder)
}

/// Goes on from a folder's states and compares with a run that was never stopped. Returns how many rows were said.
///
/// # Errors
/// If a state cannot be read, or goes on otherwise.
pub fn check(folder: &Path) -> Result<usize> {
    let input = Input::read(folder)?;
    let (mut whole, mut restored) = (Tasks::new(&input), Tasks::restore(&input, folder)?);
    whole.read(&input, 0)?;
    let before = whole.rows.len();
    for tasks in [&mut whole, &mut restored] {
        tasks.read(&input, 1)?;
        tasks.end()?;
    }
    // What was said before may be said again; whatever is said last must be the same.
    let (expected, found) = (latest(&whole.rows), latest(&restored.rows));
    for (key, row) in &found {
        ensure!(expected.get(key) == Some(row), "{row:?} is {:?} without a break", expected.get(key));
    }
    let missing = latest(&whole.rows[before..]).into_iter().find(|(key, _)| !found.contains_key(key));
    ensure!(missing.is_none(), "nobody says {missing:?}");
    Ok(found.len())
}

/// The last word on each row.
fn latest(rows: &[Row]) -> BTreeMap<(usize, Option<i64>, &[Value]), &Row> {
    rows.iter().map(|row| ((row.table, row.window.map(|(start, _)| start), &row.group[..]), row)).collect()
}
