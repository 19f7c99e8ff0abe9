//! Couchbase: one suite, three witnesses. The double in this crate always; the vendor's mock where it lies beside the clone
//! (or where `COUCHBASE_MOCK` says); a real server where `COUCHBASE_URL` (`COUCHBASE_USER`, `COUCHBASE_PASSWORD`) says.
//! What only a double can be made to do is in `faults`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod faults;
mod reading;
mod secured;
mod speed;
mod witness;

use std::{collections::BTreeSet, io::Write as _};

use tests::changes::{Results, connect, prove};
use worker::sink::{couchbase::Step, database::Connector};

use self::{
    reading::{documents, runtime},
    witness::{Witness, witnesses},
};

/// A check that every witness has to pass.
fn check(name: &str, check: impl Fn(&Witness)) {
    let witnesses = witnesses();
    let names: Vec<&str> = witnesses.iter().map(|witness| witness.name).collect();
    say(&format!("{name}: witnesses are {}", names.join(", ")));
    witnesses.iter().for_each(check);
}

/// Says something to who runs the tests, past the test harness, which keeps what passing tests print to itself.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// What `setup` would make, or has made, in this order.
fn steps(results: &Results, witness: &Witness, set_up: bool) -> Vec<String> {
    let Connector::Couchbase(connector) = results.connector("couchbase", witness.secrets.path()) else {
        panic!("another kind of sink");
    };
    let steps: Vec<Step> = runtime()
        .block_on(async { if set_up { connector.set_up().await.unwrap() } else { connector.look().await.unwrap() } });
    steps.iter().map(ToString::to_string).filter(|step| !step.starts_with("bucket ")).collect()
}

#[test]
fn documents_are_the_rows_of_the_tables_however_often_they_are_written() {
    check("however often", |witness| {
        let results = witness.results();
        prove(&results, "couchbase", witness.secrets.path(), &|| documents(&results, witness));
    });
}

#[test]
fn set_up_makes_what_is_missing_and_then_nothing() {
    check("set-up", |witness| {
        let results = witness.results();
        let scope = &witness.scope;
        let all = [format!("scope {scope}"), format!("collection {scope}.sales")];
        assert_eq!(steps(&results, witness, false), all, "{}: looked at", witness.name);
        assert_eq!(steps(&results, witness, true), all, "{}: made", witness.name);
        assert_eq!(steps(&results, witness, true), [""; 0], "{}: made again", witness.name);
        assert_eq!(steps(&results, witness, false), [""; 0], "{}: looked at again", witness.name);
    });
}

#[test]
fn writers_that_meet_leave_the_newest() {
    check("writers that meet", |witness| {
        let results = witness.results();
        // A durable one among them; each has everything, in batches of its own size.
        let writer = async |sink: &str, size: usize| {
            let mut database = connect(&results, sink, witness.secrets.path()).await;
            for start in (0..results.len()).step_by(size) {
                let batch = results.changes(sink, start..(start + size).min(results.len()));
                database.write(&batch).await.unwrap();
            }
        };
        runtime().block_on(async {
            tokio::join!(writer("couchbase", 7), writer("durable", 30), writer("couchbase", 101));
        });
        assert_eq!(documents(&results, witness), results.expected(), "{}", witness.name);
    });
}

#[test]
fn a_wrong_password_is_told_at_once() {
    check("a wrong password", |witness| {
        let results = witness.results();
        let secrets = witness.secrets_with("not the password");
        let begun = std::time::Instant::now();
        let refused = runtime().block_on(results.connector("couchbase", secrets.path()).connect());
        let told = refused.err().map(|error| format!("{error:#}")).unwrap();
        assert!(told.contains("refuses the username and password of the secret"), "{}: {told}", witness.name);
        assert!(!told.contains("not the password"), "{told}");
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    });
}

#[test]
fn an_id_that_is_too_long_leaves_the_whole_key_in_its_document() {
    check("a long key", |witness| {
        let results = witness.results();
        let group = "ü: 100 % ".repeat(100);
        let row = serde_json::json!({
            "table": "sales", "window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-01T00:01:00Z", "epoch": 1,
            "final": false, "group": {"category": group}, "values": {"revenue": 1, "orders": 1, "top": []},
        });
        let change = results.reader("couchbase").row(1, row.to_string().as_bytes()).unwrap().unwrap();
        let worker::sink::row::Key::Row { id, .. } = &change.key else { panic!("{change:?}") };
        assert!(id.len() <= 240 && id.contains("::~"), "{id}");
        runtime().block_on(async {
            let mut database = connect(&results, "couchbase", witness.secrets.path()).await;
            database.write(std::slice::from_ref(&change)).await.unwrap();
        });
        let document = reading::document(witness, id);
        let key = format!("sales::2026-01-01T00:00:00Z::{}", group.replace('%', "%25").replace(':', "%3A"));
        assert_eq!(document["_key"], key.as_str(), "{}", witness.name);
        assert_eq!(document["category"], group.as_str());
    });
}

/// The ids of all documents that the results make.
fn ids(results: &Results) -> BTreeSet<String> {
    let changes = results.changes("couchbase", 0..results.len());
    changes
        .iter()
        .map(|change| match &change.key {
            worker::sink::row::Key::Row { id, .. } | worker::sink::row::Key::Gone { id, .. } => id.clone(),
            worker::sink::row::Key::Event { .. } => unreachable!("tables have rows"),
        })
        .collect()
}
