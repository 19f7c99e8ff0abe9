//! The example category-sales from outside: a shop that posts events, and its table as every store shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use crds::Checked;
use engine::{decimal::Decimal, output::Source, time::rfc3339};
use serde_json::{Value, json};
use worker::{kafka::client::Cluster, secrets::Secrets};

use crate::{
    binary::root,
    kafka::raw_partition,
    reference::{Input, cell::Cell, reference},
};

/// Rows by window and category: sum in units of 10⁻⁹, count.
pub type Rows = BTreeMap<(String, String), (i128, i64)>;

/// Events of a post.
pub const BATCH: u64 = 200;

/// Time of the events between two of them: the windows of a minute close while the shop runs.
const STEP_MS: i64 = 10;

const CATEGORIES: [&str; 6] = ["Electronics", "Fashion", "Beauty", "Home", "Sports", "Grocery"];

/// The example, with a collector at an address in place of the generator.
///
/// # Errors
/// If the example has changed.
pub fn over_http(bootstrap: &str, collector: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join("examples/category-sales.yaml"))?;
    ensure!(text.contains("kafka-bootstrap:9092"), "the example names other brokers");
    let text = text.replace("kafka-bootstrap:9092", bootstrap);
    let (before, rest) = text.split_once("    synthetic:").context("the example does not generate its events")?;
    let (_, after) = rest.split_once("  streams:").context("the example has no stream")?;
    let (_, port) = collector.rsplit_once(':').context("an address has a port")?;
    Ok(format!("{before}    http: {{port: {port}}}\n  streams:{after}"))
}

/// Posts events until it is told to stop; a post that failed is posted again, so that events may come twice, and none is
/// left out.
pub struct Shop {
    collector: String,
    start: i64,
    is_open: Arc<AtomicBool>,
    sold: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Shop {
    /// Begins to post to a collector, so many milliseconds apart.
    #[must_use]
    pub fn open(collector: String, start: i64, pause: Duration) -> Self {
        let (is_open, sold) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (open, count) = (Arc::clone(&is_open), Arc::clone(&sold));
        let address = collector.clone();
        let thread = std::thread::spawn(move || {
            while open.load(Ordering::Acquire) {
                let first = count.load(Ordering::Acquire);
                let body = batch(start, first);
                // Whatever went wrong, the answer is the same: again.
                while ureq::post(&address).content_type("application/json").send(&body).is_err() {
                    std::thread::park_timeout(pause);
                }
                count.store(first + BATCH, Ordering::Release);
                std::thread::park_timeout(pause);
            }
        });
        Self { collector, start, is_open, sold, thread }
    }

    /// Events that are in Kafka for certain.
    #[must_use]
    pub fn sold(&self) -> u64 {
        self.sold.load(Ordering::Acquire)
    }

    /// Posts the events from `first` on once more; the status of the answer.
    ///
    /// # Errors
    /// If nobody answers, or not with a success.
    pub fn post_again(&self, first: u64) -> Result<u16> {
        let body = batch(self.start, first);
        Ok(ureq::post(&self.collector).content_type("application/json").send(&body)?.status().as_u16())
    }

    /// Ends with the post that is under way; all events.
    ///
    /// # Errors
    /// If the shop broke down.
    pub fn close(self) -> Result<u64> {
        self.is_open.store(false, Ordering::Release);
        self.thread.join().ok().context("the shop broke down")?;
        Ok(self.sold.load(Ordering::Acquire))
    }
}

fn batch(start: i64, first: u64) -> String {
    let event = |number: u64| {
        let time = start + number as i64 * STEP_MS;
        let category = CATEGORIES[(number * 7 % 31 % 6) as usize];
        let amount = format!("{}.{:02}", 5 + number * 13 % 495, number * 17 % 100);
        json!({"transaction_id": format!("t{number}"), "category": category, "amount": amount, "timestamp": rfc3339(time)})
    };
    Value::from((first..first + BATCH).map(event).collect::<Vec<Value>>()).to_string()
}

/// What the naive reference says of everything that lies in the raw topic.
///
/// Partition by partition, by two threads: windows are tumbling, so that what a partition gives does not depend on the
/// others, and rows of one window and category add up. Millions of events need not lie in memory at once.
///
/// # Errors
/// If it cannot be read.
pub fn expected(checked: &Checked) -> Result<Rows> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let topics = checked.plan.topics.iter().enumerate();
    let sources = topics.flat_map(|(topic, plan)| (0..plan.partitions).map(move |at| (topic as u32, at)));
    let sources: Vec<(u32, u32)> = sources.collect();
    let part = |sources: &[(u32, u32)]| -> Result<Rows> {
        let mut rows = Rows::new();
        for (topic, partition) in sources {
            let records = raw_partition(&cluster, &checked.plan.topics[*topic as usize].name, *partition)?;
            let input = Input::from([(Source { topic: *topic, partition: *partition }, records)]);
            add(&mut rows, expected_of(checked, &input)?);
        }
        Ok(rows)
    };
    let (left, right) = sources.split_at(sources.len() / 2);
    let (rows, other) = std::thread::scope(|scope| {
        let left = scope.spawn(|| part(left));
        let right = part(right);
        (left.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the reference broke down"))), right)
    });
    let mut rows = rows?;
    add(&mut rows, other?);
    Ok(rows)
}

/// Events of the shop that come for the first time behind a later one, in the same partition of the raw topic: what one
/// producer sends under keys of one partition is to stay in order, whoever was killed. What was posted again does not count.
///
/// # Errors
/// If it cannot be read, or holds something else.
pub fn out_of_order(checked: &Checked) -> Result<u64> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let topic = &checked.plan.topics[0];
    let mut found = 0;
    for partition in 0..topic.partitions {
        let (mut seen, mut last) = (BTreeSet::new(), 0);
        for record in raw_partition(&cluster, &topic.name, partition)? {
            let event: Value = serde_json::from_slice(&record.payload)?;
            let number = event["transaction_id"].as_str().and_then(|id| id.strip_prefix('t')?.parse::<u64>().ok());
            let number = number.with_context(|| format!("no event of the shop: {event}"))?;
            if seen.insert(number) {
                found += u64::from(number < last);
                last = last.max(number);
            }
        }
        ensure!(!seen.is_empty(), "partition {partition} holds nothing to be in order");
    }
    Ok(found)
}

fn add(rows: &mut Rows, more: Rows) {
    for (key, (total, count)) in more {
        let row = rows.entry(key).or_default();
        *row = (row.0 + total, row.1 + count);
    }
}

fn expected_of(checked: &Checked, input: &Input) -> Result<Rows> {
    let answer = reference(&checked.plan, &Vec::new(), input);
    let mut rows = Rows::new();
    for ((_, start, group), (_, values)) in &answer.rows {
        let start = start.context("a row without a window")?;
        let category = group[0].text().context("a row without a category")?.to_owned();
        let [Cell::Decimal(total), Cell::Integer(count)] = values[..] else {
            anyhow::bail!("another kind of row: {values:?}");
        };
        rows.insert((rfc3339(start), category), (total, count));
    }
    Ok(rows)
}

/// Events that rows count.
#[must_use]
pub fn counted(rows: &Rows) -> i64 {
    rows.values().map(|(_, count)| count).sum()
}

/// A row as JSON, as the API and a document have it.
///
/// # Errors
/// If it is no row of the table.
pub fn row(row: &Value) -> Result<((String, String), (i128, i64))> {
    let told = || format!("no row of the table: {row}");
    let text = |name: &str| row[name].as_str().map(str::to_owned).with_context(told);
    let total = Decimal::parse(row["total_sales"].to_string().trim_matches('"').as_bytes()).with_context(told)?;
    let count = row["transaction_count"].as_i64().with_context(told)?;
    Ok(((text("window_start")?, text("category")?), (total.0, count)))
}
