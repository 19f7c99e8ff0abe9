//! The example category-sales from outside: a shop that posts events, and its table as every store shows it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use engine::{decimal::Decimal, time::rfc3339};
use serde_json::{Value, json};

use crate::{
    kafka::raw_records,
    reference::{cell::Cell, reference},
};

/// Rows by window and category: sum in units of 10⁻⁹, count.
pub type Rows = BTreeMap<(String, String), (i128, i64)>;

/// Events of a post.
const BATCH: u64 = 200;

/// Time of the events between two of them: the windows of a minute close while the shop runs.
const STEP_MS: i64 = 10;

const CATEGORIES: [&str; 6] = ["Electronics", "Fashion", "Beauty", "Home", "Sports", "Grocery"];

/// Posts events until it is told to stop; a post that failed is posted again, so that events may come twice, and none is
/// left out.
pub struct Shop {
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
        let thread = std::thread::spawn(move || {
            while open.load(Ordering::Acquire) {
                let first = count.load(Ordering::Acquire);
                let body = batch(start, first);
                // Whatever went wrong, the answer is the same: again.
                while ureq::post(&collector).content_type("application/json").send(&body).is_err() {
                    std::thread::park_timeout(pause);
                }
                count.store(first + BATCH, Ordering::Release);
                std::thread::park_timeout(pause);
            }
        });
        Self { is_open, sold, thread }
    }

    /// Events that are in Kafka for certain.
    #[must_use]
    pub fn sold(&self) -> u64 {
        self.sold.load(Ordering::Acquire)
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
/// # Errors
/// If it cannot be read.
pub fn expected(checked: &crds::Checked) -> Result<Rows> {
    let answer = reference(&checked.plan, &Vec::new(), &raw_records(checked)?);
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
