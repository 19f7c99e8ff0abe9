//! The guarantees of the log: atomic, ordered, there again after it was opened again.

use std::path::Path;

use super::*;
use crate::ports::{IngestLog, IngestRecord, Position};

fn specs() -> Vec<TopicSpec> {
    let spec =
        |name: &str, partitions, processed| TopicSpec { name: name.into(), partitions, compress: true, processed };
    vec![spec("a", 2, true), spec("b", 1, false)]
}

fn open(path: &Path) -> SharedLog {
    Arc::new(EmbeddedLog::open(path, &specs(), Fsync::Interval).unwrap())
}

fn records(texts: &[&str]) -> Records {
    let mut records = Records::default();
    texts.iter().for_each(|text| records.push(text.as_bytes()));
    records
}

fn at(log: &EmbeddedLog, topic: &str, partition: u32) -> TopicPartition {
    log.topic(topic).unwrap().partition(partition)
}

fn append(log: &EmbeddedLog, at: TopicPartition, texts: &[&str]) {
    log.commit(&Commit { appends: &[(at, &records(texts))], ..Commit::default() }).unwrap();
}

fn read(log: &EmbeddedLog, at: TopicPartition, from: u64) -> Vec<(u64, String)> {
    let mut batch = RawBatch::default();
    log.read(at, from..u64::MAX, usize::MAX, &mut batch).unwrap();
    let text = |record| String::from_utf8(batch.payload(record).to_vec()).unwrap();
    batch.records.iter().map(|record| (record.offset, text(record))).collect()
}

fn owned(records: &[(u64, &str)]) -> Vec<(u64, String)> {
    records.iter().map(|(offset, text)| (*offset, (*text).into())).collect()
}

#[test]
fn a_commit_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        let (a, b) = (at(&log, "a", 1), at(&log, "b", 0));
        let (first, second) = (records(&["one", "two"]), records(&["three"]));
        let position = Some(Position { consumer: "process", at: a, next: 7 });
        let commit = Commit { appends: &[(a, &first), (b, &second)], position, progress: Some(("files", b"17")) };
        log.commit(&commit).unwrap();
        append(&log, a, &["four"]);
    }
    let log = open(dir.path());
    let (a, b) = (at(&log, "a", 1), at(&log, "b", 0));
    assert_eq!(log.offsets(a), 0..3);
    assert_eq!(read(&log, a, 1), owned(&[(1, "two"), (2, "four")]));
    assert_eq!(read(&log, b, 0), owned(&[(0, "three")]));
    assert_eq!(read(&log, at(&log, "a", 0), 0), []);
    assert_eq!(log.position("process", a).unwrap(), Some(7));
    assert_eq!(log.position("process", b).unwrap(), None);
    assert_eq!(log.progress("files").unwrap(), Some(b"17".to_vec()));
}

#[test]
fn a_reader_takes_what_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let a = at(&log, "a", 0);
    append(&log, a, &["0", "1", "2"]);
    append(&log, a, &["3", "4", "5"]);
    let mut batch = RawBatch::default();
    log.read(a, 2..5, usize::MAX, &mut batch).unwrap();
    assert_eq!(batch.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [2, 3, 4]);
    batch.clear();
    log.read(a, 0..u64::MAX, 1, &mut batch).unwrap();
    assert_eq!(batch.records.len(), 3, "at least one entry, and no more than the bytes asked for");
}

#[test]
fn a_large_commit_becomes_several_entries_and_reads_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let a = at(&log, "a", 0);
    let long = "x".repeat(limits::ENTRY_BYTES_MAX / 2 + 1);
    append(&log, a, &[&long, &long, "", &long]);
    assert_eq!(log.offsets(a), 0..4);
    assert_eq!(read(&log, a, 2), owned(&[(2, ""), (3, &long)]));
}

#[test]
fn what_was_deleted_stays_deleted_and_offsets_go_on() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        let a = at(&log, "a", 0);
        append(&log, a, &["0", "1"]);
        append(&log, a, &["2"]);
        log.delete_below(a, 1).unwrap();
        assert_eq!(log.offsets(a), 0..3, "an entry goes as a whole or not at all");
        log.delete_below(a, 2).unwrap();
        assert_eq!(read(&log, a, 0), owned(&[(2, "2")]));
        log.delete_below(a, 3).unwrap();
    }
    let log = open(dir.path());
    let a = at(&log, "a", 0);
    assert_eq!(log.offsets(a), 3..3);
    append(&log, a, &["3"]);
    assert_eq!(read(&log, a, 0), owned(&[(3, "3")]));
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path());
    let again = EmbeddedLog::open(dir.path(), &specs(), Fsync::Interval);
    assert!(matches!(again, Err(OpenError::Locked(_))));
}

#[test]
fn writers_wait_for_the_processor_and_leave_when_the_log_closes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (topic, a) = (log.topic("a").unwrap(), at(&log, "a", 0));
    append(&log, a, &["0123456789"]);
    assert_eq!(log.waiting_bytes(topic), 10);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| log.wait_for_room(topic, 5));
        let position = Some(Position { consumer: PROCESS, at: a, next: 1 });
        log.commit(&Commit { position, ..Commit::default() }).unwrap();
        waiter.join().unwrap().unwrap();
    });
    append(&log, a, &["0123456789"]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| log.wait_for_room(topic, 5));
        log.close_inlets();
        assert!(matches!(waiter.join().unwrap(), Err(LogError::Closed)));
    });
}

#[test]
fn an_inlet_keeps_the_order_within_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut inlet = Inlet::new(log.clone());
    let record = |partition, payload: &'static [u8]| IngestRecord { topic: "a", partition, payload, low: None };
    inlet.commit("i", &[record(0, b"1"), record(1, b"2"), record(0, b"3")], b"p").unwrap();
    inlet.commit("i", &[record(1, b"4")], b"q").unwrap();
    assert_eq!(read(&log, at(&log, "a", 0), 0), owned(&[(0, "1"), (1, "3")]));
    assert_eq!(read(&log, at(&log, "a", 1), 0), owned(&[(0, "2"), (1, "4")]));
    assert_eq!(inlet.progress("i").unwrap(), Some(b"q".to_vec()));
    assert_eq!((inlet.partitions("a"), inlet.partitions("none")), (2, 0));
}

#[test]
fn a_reader_outside_sees_what_an_fsync_covers() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let a = at(&log, "a", 0);
    append(&log, a, &["0"]);
    assert_eq!(log.durable_end(a), 0);
    log.sync().unwrap();
    assert_eq!(log.durable_end(a), 1);
}
