//! What remembering ids costs, in nanoseconds of CPU and in bytes: `cargo bench -p engine --bench dedup`.

mod measure;

use engine::{
    codec::Reader,
    column::{Span, append},
    dedup::Dedup,
    time::{BEGINNING_OF_TIME, Millis},
};
use measure::{now_ns, quickest};

const BATCH: usize = 4_096;
const WITHIN_MS: Millis = 900_000;

fn main() {
    for ids in [100_000, 1_000_000, 5_000_000] {
        grow(ids);
    }
    roll(1_000_000);
}

/// New ids, nothing forgotten; then all of them again; then through a snapshot.
fn grow(ids: usize) {
    let mut dedup = Dedup::new(WITHIN_MS);
    let mut arena = Vec::new();
    let mut seen = Vec::new();
    let mut most_bytes = 0.0_f64;
    for name in ["new", "seen"] {
        let mut ns = 0;
        for first in (0..ids).step_by(BATCH) {
            let spans = spans(first..(first + BATCH).min(ids), &mut arena);
            let rows = spans.len();
            let (asked, times, watermarks) = (vec![true; rows], vec![1_000; rows], vec![BEGINNING_OF_TIME; rows]);
            let start = now_ns();
            dedup.seen_batch(&spans, &asked, &arena, &times, &watermarks, &mut seen);
            ns += now_ns() - start;
            assert!(seen.iter().all(|seen| *seen == (name == "seen")));
            if dedup.len() >= 100_000 {
                most_bytes = most_bytes.max(dedup.bytes() as f64 / dedup.len() as f64);
            }
        }
        println!("{:44} {:8.1} ns each", format!("{ids} {name} ids"), ns as f64 / ids as f64);
    }
    println!("    {:.1} bytes an id, at most {most_bytes:.1} on the way", dedup.bytes() as f64 / ids as f64);
    let mut bytes = Vec::new();
    quickest("    snapshot", ids, || {
        bytes.clear();
        dedup.snapshot(&mut bytes);
    });
    quickest("    restore", ids, || drop(Dedup::restore(&mut Reader::new(&bytes)).expect("it was just written")));
    println!("    {:.1} bytes an id in the snapshot", bytes.len() as f64 / ids as f64);
}

/// A long stream that holds `live` ids at any time and forgets the others.
fn roll(live: usize) {
    let mut dedup = Dedup::new(WITHIN_MS);
    let mut arena = Vec::new();
    let mut seen = Vec::new();
    let (mut ns, mut most_bytes) = (0, 0);
    let time_of = |at: usize| (at as u64 * WITHIN_MS as u64 / live as u64) as Millis;
    let ids = 6 * live;
    for first in (0..ids).step_by(BATCH) {
        let rows = first..first + BATCH;
        let spans = spans(rows.clone(), &mut arena);
        let times: Vec<Millis> = rows.map(time_of).collect();
        let asked = vec![true; BATCH];
        let start = now_ns();
        dedup.seen_batch(&spans, &asked, &arena, &times, &times, &mut seen);
        ns += if first > live { now_ns() - start } else { 0 };
        most_bytes = most_bytes.max(dedup.bytes());
    }
    println!(
        "{:44} {:8.1} ns each",
        format!("new ids, {live} live, others forgotten"),
        ns as f64 / (ids - live) as f64
    );
    println!("    at most {:.1} bytes a live id", most_bytes as f64 / live as f64);
}

fn spans(ids: std::ops::Range<usize>, arena: &mut Vec<u8>) -> Vec<Span> {
    arena.clear();
    ids.map(|id| append(format!("evt_{id:08}").as_bytes(), arena)).collect()
}
