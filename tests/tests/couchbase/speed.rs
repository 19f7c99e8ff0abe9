//! How many documents a second the sink writes: a figure, printed; and the proof that it wrote them all.

use std::time::Instant;

use tests::{
    changes::{Results, connect},
    couchbase::Double,
};
use worker::sink::row::{Change, Key, Version};

use super::{reading::runtime, say, witness::Witness};

/// Documents, and how often each is written.
const DOCUMENTS: usize = 20_000;
const TURNS: u64 = 2;

/// Records of a batch, as the sink of a fleet gathers them.
const BATCH: usize = 2_000;

#[test]
fn the_sink_writes_thousands_of_documents_a_second() {
    let witness = Witness::of(Double::start(2).unwrap());
    let results: Results = witness.results();
    let template = results.changes("couchbase", 0..1).remove(0);
    let runtime = runtime();
    let mut database = runtime.block_on(connect(&results, "couchbase", witness.secrets.path()));
    for turn in 0..TURNS {
        let changes: Vec<Change> = (0..DOCUMENTS).map(|at| change(&template, at, turn)).collect();
        let begun = Instant::now();
        runtime.block_on(async {
            for batch in changes.chunks(BATCH) {
                database.write(batch).await.unwrap();
            }
        });
        let seconds = begun.elapsed().as_secs_f64();
        let what = if turn == 0 { "new" } else { "changed" };
        let rate = DOCUMENTS as f64 / seconds;
        say(&format!("{DOCUMENTS} {what} documents in {seconds:.2} s: {rate:.0} documents/s"));
    }
    let there = witness.held();
    assert_eq!(there.len(), DOCUMENTS);
    assert!(there.values().all(|document| document.writes == TURNS));
}

fn change(template: &Change, at: usize, turn: u64) -> Change {
    let key = Key::Row {
        id: format!("sales::2026-01-01T00:00:00Z::group-{at}"),
        version: Version { epoch: 1, offset: turn * DOCUMENTS as u64 + at as u64 },
    };
    Change { key, ..template.clone() }
}
