//! Events of W2 that happen now, in batches over HTTP: by several connections, as fast as they are answered or at a rate.

use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use engine::time::write_rfc3339;
use ureq::Agent;

use crate::random::Random;

/// Events of a batch.
pub const BATCH: u64 = 100;

/// Longest that a batch may be refused before the load gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a refused batch waits before it is sent again.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

const USERS: u64 = 50_000;

/// What is sent, and how.
pub struct Load {
    /// Where to.
    pub url: String,
    /// At the same time.
    pub connections: u64,
    /// As many as are answered, unless said.
    pub per_second: Option<u64>,
    /// Groups that events fall into.
    pub products: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Sent {
    /// Events that were accepted.
    pub events: u64,
    /// From when a batch was due until its answer, each.
    pub waits: Vec<Duration>,
}

impl Load {
    /// Sends until told to stop.
    ///
    /// # Errors
    /// If a batch is not taken.
    pub fn run(&self, stop: &AtomicBool) -> Result<Sent> {
        let start = Instant::now();
        let connection = |number: u64| move || self.connection(number, start, stop);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections).map(|number| scope.spawn(connection(number))).collect();
            let mut all = Sent::default();
            for thread in threads {
                let sent = thread.join().ok().context("a connection broke down")??;
                all.events += sent.events;
                all.waits.extend(sent.waits);
            }
            Ok(all)
        })
    }

    fn connection(&self, number: u64, start: Instant, stop: &AtomicBool) -> Result<Sent> {
        let agent = Agent::new_with_defaults();
        let mut random = Random::new(number);
        let (mut sent, mut body) = (Sent::default(), Vec::new());
        for turn in 0.. {
            let place = turn * self.connections + number;
            let mut due = Instant::now();
            if let Some(rate) = self.per_second {
                due = start + Duration::from_nanos(place * BATCH * 1_000_000_000 / rate);
                wait_until(due);
            }
            if stop.load(Ordering::Acquire) {
                break;
            }
            body.clear();
            self.write_batch(place * BATCH, &mut random, &mut body);
            send(&agent, &self.url, &body)?;
            sent.waits.push(due.elapsed());
            sent.events += BATCH;
        }
        Ok(sent)
    }

    fn write_batch(&self, first: u64, random: &mut Random, out: &mut Vec<u8>) {
        let now = worker::clock::now();
        out.push(b'[');
        for number in first..first + BATCH {
            if number > first {
                out.push(b',');
            }
            let (user, product) = (random.below(USERS), random.below(self.products));
            write_event(
                ("load", number),
                &format_args!("user_{user:05}"),
                &format_args!("prod_{product:04}"),
                now,
                out,
            );
        }
        out.push(b']');
    }
}

/// Writes a valid event of W2.
pub fn write_event(
    (source, number): (&str, u64),
    user: &dyn std::fmt::Display,
    product: &dyn std::fmt::Display,
    at: i64,
    out: &mut Vec<u8>,
) {
    // Writing into memory cannot fail.
    let _ = write!(
        out,
        "{{\"event_id\":\"{source}_{number:010}\",\"user_id\":\"{user}\",\"product_id\":\"{product}\",\
         \"event_type\":\"view\",\"timestamp\":\""
    );
    write_rfc3339(at, out);
    out.extend_from_slice(
        b"\",\"product_category\":\"Books\",\"device_type\":\"mobile\",\"page_url\":\"/product/somewhere\",\
          \"session_id\":\"session_0000001\",\"price\":19.99}",
    );
}

/// Posts a body until it is taken.
///
/// # Errors
/// If that takes too long, or something in it is refused for good.
pub fn send(agent: &Agent, url: &str, body: &[u8]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = agent.post(url).header("content-type", "application/json").send(body);
        match answer {
            Ok(mut answer) => {
                let text = answer.body_mut().read_to_string()?;
                ensure!(text.contains("\"rejected\":0"), "the collector rejects events: {text}");
                return Ok(());
            }
            Err(error) => ensure!(Instant::now() < deadline, "the collector does not take a batch: {error}"),
        }
        thread::park_timeout(REFUSED_PAUSE);
    }
}

/// Waits until then: other wake-ups of the thread do not count.
pub fn wait_until(then: Instant) {
    loop {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// The value below which so many of a hundred lie, in milliseconds.
#[must_use]
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}
