//! What no server shows on demand: after every fault the documents are the rows, and each was written as often as it should.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    changes::{Results, connect},
    couchbase::{Double, Fault},
};
use worker::sink::{
    database::{Connector, Database},
    row::{Change, Key},
};

use super::{
    reading::{rows_of, runtime},
    witness::Witness,
};

/// Results written at a time.
const BATCH: usize = 40;

/// Faults one after the other, and how often each.
type Faults<'a> = &'a [(Fault, u32)];

/// How long a sink may need until it is through, or has given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A double of two nodes, and a sink's view of it.
struct Trial {
    witness: Witness,
    results: Results,
}

impl Trial {
    fn new() -> Self {
        let witness = Witness::of(Double::start(2).unwrap());
        let results = witness.results();
        Self { witness, results }
    }

    async fn connect(&self, sink: &str) -> Database {
        connect(&self.results, sink, self.witness.secrets.path()).await
    }

    fn batches(&self, sink: &str) -> Vec<Vec<Change>> {
        let starts = (0..self.results.len()).step_by(BATCH);
        starts.map(|at| self.results.changes(sink, at..(at + BATCH).min(self.results.len()))).collect()
    }

    /// Writes as the sink of a fleet does: what failed is written again over a new connection.
    async fn write(&self, sink: &str, database: &mut Database, batch: &[Change]) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = database.write(batch).await {
            assert!(Instant::now() < deadline, "{error:#}");
            *database = self.connect(sink).await;
        }
    }

    /// Writes all batches while the faults, so often each, come over the requests.
    fn run(&self, sink: &str, faults: &[(Fault, u32)]) {
        runtime().block_on(async {
            let mut database = self.connect(sink).await;
            for (at, batch) in self.batches(sink).iter().enumerate() {
                if at == 1 {
                    faults.iter().for_each(|(fault, times)| self.witness.double().inject(*fault, *times));
                }
                self.write(sink, &mut database, batch).await;
            }
        });
        assert_eq!(self.witness.double().faults_left(), 0, "faults that nobody met");
    }

    /// Compares the documents with the rows.
    fn prove(&self) {
        assert_eq!(rows_of(&self.witness), self.results.expected());
    }

    /// Compares how often documents were written with the naive count: once for each batch that has them.
    fn prove_nothing_twice(&self, sink: &str) {
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for batch in self.batches(sink) {
            let ids: std::collections::BTreeSet<String> = batch.iter().map(id).collect();
            ids.into_iter().for_each(|id| *expected.entry(id).or_default() += 1);
        }
        let found: BTreeMap<String, u64> =
            self.witness.held().into_iter().map(|(id, document)| (id, document.writes)).collect();
        assert_eq!(found, expected);
    }
}

fn id(change: &Change) -> String {
    match &change.key {
        Key::Row { id, .. } | Key::Gone { id, .. } => id.clone(),
        Key::Event { .. } => unreachable!("tables have rows"),
    }
}

#[test]
fn whatever_happens_to_a_request_happens_once() {
    let cases: [(&str, &str, Faults); 7] = [
        ("nothing", "couchbase", &[]),
        ("no time just now", "couchbase", &[(Fault::TemporaryFailure, 40)]),
        ("slow", "couchbase", &[(Fault::Slow(Duration::from_millis(40)), 20)]),
        ("broken before", "couchbase", &[(Fault::DropBefore, 4)]),
        ("broken after", "couchbase", &[(Fault::DropAfter, 4)]),
        ("durable, in progress", "durable", &[(Fault::WriteInProgress, 40)]),
        ("durable, ambiguous", "durable", &[(Fault::Ambiguous, 40)]),
    ];
    for (name, sink, faults) in cases {
        println!("{name}");
        let trial = Trial::new();
        trial.run(sink, faults);
        trial.prove();
        trial.prove_nothing_twice(sink);
    }
}

#[test]
fn somebody_who_writes_between_reading_and_writing_loses_nothing() {
    let trial = Trial::new();
    trial.run("couchbase", &[(Fault::Race, 60)]);
    trial.prove();
}

#[test]
fn a_new_document_that_somebody_older_makes_first_is_replaced() {
    let trial = Trial::new();
    runtime().block_on(async {
        let mut database = trial.connect("couchbase").await;
        trial.witness.double().inject(Fault::Race, 15);
        let batch = trial.results.changes("couchbase", 0..trial.results.len());
        trial.write("couchbase", &mut database, &batch).await;
    });
    trial.prove();
}

#[test]
fn a_rebalance_is_followed() {
    let trial = Trial::new();
    runtime().block_on(async {
        let mut database = trial.connect("couchbase").await;
        for batch in trial.batches("couchbase") {
            trial.write("couchbase", &mut database, &batch).await;
            trial.witness.double().rebalance();
        }
    });
    trial.prove();
    trial.prove_nothing_twice("couchbase");
}

#[test]
fn a_node_that_is_gone_and_back_costs_nothing_but_time() {
    let mut trial = Trial::new();
    runtime().block_on(async {
        let mut database = trial.connect("couchbase").await;
        let batches = trial.batches("couchbase");
        for (at, batch) in batches.iter().enumerate() {
            if at != 3 {
                trial.write("couchbase", &mut database, batch).await;
                continue;
            }
            trial.witness.double_mut().stop(1);
            // Half of the documents are there; the write can only wait for its node.
            let early = tokio::time::timeout(Duration::from_millis(500), database.write(batch)).await;
            assert!(!matches!(early, Ok(Ok(()))), "written without the node");
            trial.witness.double_mut().resume(1).unwrap();
            trial.write("couchbase", &mut database, batch).await;
        }
    });
    trial.prove();
    trial.prove_nothing_twice("couchbase");
}

#[test]
fn nobody_there_is_told_at_once_and_somebody_back_is_used() {
    let mut trial = Trial::new();
    let batch = trial.results.changes("couchbase", 0..trial.results.len());
    runtime().block_on(async {
        let mut database = trial.connect("couchbase").await;
        [0, 1].into_iter().for_each(|node| trial.witness.double_mut().stop(node));
        let begun = Instant::now();
        database.write(&batch).await.unwrap_err();
        let connector = trial.results.connector("couchbase", trial.witness.secrets.path());
        let told = connector.connect().await.err().map(|error| format!("{error:#}")).unwrap();
        assert!(told.contains("lets nobody in") && told.contains("refused"), "{told}");
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
        for node in [0, 1] {
            trial.witness.double_mut().resume(node).unwrap();
        }
        let mut database = trial.connect("couchbase").await;
        trial.write("couchbase", &mut database, &batch).await;
    });
    trial.prove();
}

#[test]
fn a_bucket_that_is_too_big_for_the_cluster_is_told_with_its_size() {
    let trial = Trial::new();
    let Connector::Couchbase(connector) = trial.results.connector("greedy", trial.witness.secrets.path()) else {
        panic!("another kind of sink");
    };
    let told = runtime().block_on(connector.set_up()).map(drop).unwrap_err();
    let told = format!("{told:#}");
    let parts = ["bucket greedy with 102400 MiB a node", "RAM quota specified is too large"];
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");
}

#[test]
fn documents_carry_the_durability_and_the_time_that_the_manifest_asks_for() {
    let trial = Trial::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    trial.run("durable", &[]);
    for (id, document) in trial.witness.held() {
        let value: Value = serde_json::from_slice(&document.value).unwrap();
        let day = 24 * 3_600;
        // More than 30 days are an instant in the protocol, less are seconds.
        let left = u64::from(document.expiry).checked_sub(now).unwrap_or(u64::from(document.expiry));
        let expected = if value["deleted"] == Value::Bool(true) { day } else { 40 * day };
        assert!(left.abs_diff(expected) <= PATIENCE.as_secs(), "{id}: {document:?}");
        assert_eq!(document.durability, 1, "majority");
    }
    // Without either: rows stay, deletions go after a day.
    let trial = Trial::new();
    trial.run("couchbase", &[]);
    for (id, document) in trial.witness.held() {
        let value: Value = serde_json::from_slice(&document.value).unwrap();
        let is_gone = value["deleted"] == Value::Bool(true);
        assert_eq!((document.expiry > 0, document.durability), (is_gone, 0), "{id}: {document:?}");
    }
}
