//! Never a panic: long property tests of everything that reads bytes it did not write.
//!
//! The decoder reads what the world sends, the manifest parser what people type, the checkpoint and message readers what
//! a disk or a network may have torn. `PROPTEST_CASES` says how many cases there are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::sync::Arc;

use engine::{
    batch::RawBatch,
    map::MapTask,
    merge::MergeTask,
    output::{Output, Source, SystemTable},
    plan::Plan,
    value::Value,
};
use proptest::prelude::*;
use tests::{
    events::{self, Shape},
    manifests::{Layout, Manifest, OUT_OF_ORDERNESS_MS, Tables},
    pipeline,
    random::Random,
};

const SOURCE: Source = Source { topic: 0, partition: 0 };

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Changes bytes as a broken pipe, a bad disk or a careless hand would.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let len = bytes.len() as u64;
        let at = random.below(len + 1) as usize;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.bits() as u8),
            4 if at < bytes.len() => {
                let until = at + random.below(len - at as u64 + 1) as usize;
                let piece = bytes[at..until].to_vec();
                let to = random.below(len + 1) as usize;
                bytes.splice(to..to, piece);
            }
            _ => {
                let odd = *random.pick(&[
                    "\"", "{", "}", "[", "]", ":", ",", "\\u", "\\ud800", "1e999", "-", "\0", "- ", "\n", "&a ", "*a",
                ]);
                bytes.splice(at..at, odd.bytes());
            }
        }
    }
}

/// A random pipeline over one partition for each topic, and valid events for its first topic.
fn pipeline_and_events(random: &mut Random) -> (Arc<Plan>, Vec<Vec<u8>>) {
    let manifest = Manifest::any(random, Tables::All).text(Layout::ONE);
    let shape = Shape { count: 60, bad_percent: 10, ..Shape::on_time(random, OUT_OF_ORDERNESS_MS) };
    let arrivals = events::arrivals(&shape, random);
    let clicks = arrivals.into_iter().filter(|arrival| arrival.topic == "clicks").map(|arrival| arrival.payload);
    (pipeline::plan(&manifest).unwrap(), clicks.collect())
}

fn map_over(plan: &Arc<Plan>, payloads: &[Vec<u8>]) -> (MapTask, Output) {
    let mut batch = RawBatch::default();
    payloads.iter().zip(0..).for_each(|(payload, offset)| batch.push(payload, offset, events::START_MS));
    let mut map = MapTask::new(plan.clone(), pipeline::context(), SOURCE);
    map.process(&mut batch);
    let mut output = Output::default();
    map.flush(&mut output);
    (map, output)
}

/// Records that the ledger of a stream has read.
fn read(plan: &Plan, output: &Output) -> i64 {
    let ledger = SystemTable::LedgerStreams.index(plan);
    let rows = output.rows.iter().filter(|row| row.table == ledger && row.group[0] == Value::String("events".into()));
    rows.map(|row| if let Value::Integer(read) = row.values[0] { read } else { 0 }).sum()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_a_record(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let (plan, _) = pipeline_and_events(&mut Random::new(1));
        let (_, output) = map_over(&plan, &payloads);
        prop_assert_eq!(read(&plan, &output), payloads.len() as i64);
    }

    #[test]
    fn damaged_events_are_counted_or_refused(seed: u64) {
        let mut random = Random::new(seed);
        let (plan, mut payloads) = pipeline_and_events(&mut random);
        payloads.iter_mut().for_each(|payload| damage(payload, &mut random));
        let (_, output) = map_over(&plan, &payloads);
        prop_assert_eq!(read(&plan, &output), payloads.len() as i64);
    }

    #[test]
    fn damaged_manifests_are_answered(seed: u64) {
        let mut random = Random::new(seed);
        let mut text = Manifest::any(&mut random, Tables::All).text(Layout::any(&mut random)).into_bytes();
        damage(&mut text, &mut random);
        if let Err(problems) = crds::check(&String::from_utf8_lossy(&text), &[]) {
            prop_assert!(!problems.is_empty(), "refused without a reason");
            problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
        }
    }

    #[test]
    fn any_text_is_a_manifest_or_a_problem(text in "\\PC{0,300}") {
        let _ = crds::check(&text, &[]);
    }

    #[test]
    fn damaged_snapshots_of_map_are_refused_or_read(seed: u64) {
        let mut random = Random::new(seed);
        let (plan, payloads) = pipeline_and_events(&mut random);
        let (map, _) = map_over(&plan, &payloads);
        let mut bytes = Vec::new();
        map.snapshot(&mut bytes);
        prop_assert!(MapTask::restore(plan.clone(), pipeline::context(), SOURCE, &bytes).is_ok());
        damage(&mut bytes, &mut random);
        let _ = MapTask::restore(plan, pipeline::context(), SOURCE, &bytes);
    }

    #[test]
    fn damaged_messages_and_snapshots_of_merge_are_refused_or_read(seed: u64) {
        let mut random = Random::new(seed);
        let (plan, payloads) = pipeline_and_events(&mut random);
        let (_, mut output) = map_over(&plan, &payloads);
        let (partition, message) = output.shuffle.iter_mut().enumerate().max_by_key(|(_, message)| message.len()).unwrap();
        let mut merge = MergeTask::new(plan.clone(), partition as u32);
        prop_assert!(merge.apply(0, message).is_ok());
        let (mut flushed, mut bytes) = (Output::default(), Vec::new());
        merge.flush_all(&mut flushed);
        merge.snapshot(&mut bytes);
        prop_assert!(MergeTask::restore(plan.clone(), partition as u32, &bytes).is_ok());
        damage(&mut bytes, &mut random);
        let _ = MergeTask::restore(plan.clone(), partition as u32, &bytes);
        damage(message, &mut random);
        let mut merge = MergeTask::new(plan, partition as u32);
        if merge.apply(0, message).is_ok() {
            merge.flush_all(&mut Output::default());
        }
    }
}
