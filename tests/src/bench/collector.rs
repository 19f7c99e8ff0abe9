//! The collector of a fleet: how many events it takes a second, and how long each batch waits at seven tenths of that.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    load::{Load, Sent, percentile, wait_until},
    meter,
    product::w2_over,
};
use crate::{
    binary::free_address,
    kafka::Broker,
    roles::{Role, set_up},
};

/// How long it is flooded, and how long it gets seven tenths.
const LENGTH: Duration = Duration::from_secs(15);

const CONNECTIONS: u64 = 48;

/// Runs it.
///
/// # Errors
/// If something does not start, or an event that was answered for is not counted.
pub fn collector() -> Result<()> {
    let (folder, broker, listen) = (tempfile::tempdir()?, Broker::start()?, free_address()?);
    let (_, port) = listen.rsplit_once(':').context("an address has a port")?;
    let ingest = format!("  ingest:\n  - name: source\n    topic: events\n    http: {{port: {port}}}\n");
    let manifest = folder.path().join("collector.yaml");
    std::fs::write(&manifest, w2_over("collector", &broker.address, ("events", 4), &ingest))?;
    set_up(&manifest)?;
    let mut ingester = Role::start("ingest", &manifest, &["--name", "source"])?;
    ingester.wait_until_ready()?;
    let load = |per_second| Load {
        url: format!("http://127.0.0.1:{port}/v1/events"),
        connections: CONNECTIONS,
        per_second,
        products: 1_000,
    };
    let cpu = meter::cpu_of(ingester.running.id())?;
    let (flood, seconds) = during(LENGTH, &load(None))?;
    let cpu = meter::cpu_of(ingester.running.id())? - cpu;
    let rate = flood.events as f64 / seconds;
    println!("{:<52} {rate:>14.0}  reach ≥ 100,000", "collector: batches of 100, events per second");
    let per_million = cpu.as_secs_f64() / (flood.events as f64 / 1e6);
    println!("{:<52} {per_million:>14.3}", "collector: its CPU seconds per million");
    let (mut steady, _) = during(LENGTH, &load(Some((rate * 0.7) as u64)))?;
    let p99 = percentile(&mut steady.waits, 99);
    println!("{:<52} {p99:>14.1}  reach < 50", "collector: p99 at 70 % of that, in milliseconds");
    // Told a moment after the answers.
    let sent = (flood.events + steady.events) as f64;
    ingester.wait_for_figure("clickstream_ingest_events_total{ingester=\"source\"}", |counted| counted == sent)?;
    ingester.end_in_order().map(drop)
}

fn during(length: Duration, load: &Load) -> Result<(Sent, f64)> {
    let (stop, clock) = (AtomicBool::new(false), Instant::now());
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| load.run(&stop));
        wait_until(clock + length);
        stop.store(true, Ordering::Release);
        sending.join().ok().context("the load broke down")?
    })?;
    Ok((sent, clock.elapsed().as_secs_f64()))
}
