//! The fleet on one real broker: W2 and sessions from the earliest offset by one `process`, beside the limit program reading
//! the same partitions by the same batches, and how fast events come in.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use engine::batch::RawBatch;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use worker::{
    kafka::{batches::PartitionQueue, client::Cluster, context::Logged, names::Names, overview::overview},
    limits,
    secrets::Secrets,
};

use super::{
    limit::Limit,
    meter,
    product::{SESSIONS, W2, over, post, w2_over, write_events},
};
use crate::{
    binary::free_address,
    kafka::Broker,
    pipeline,
    roles::{Role, set_up},
};

/// Partitions of the raw topic.
const PARTITIONS: u32 = 4;

/// Longest that any run may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(900);

/// Brokers wait for the members of a new group as long as Kafka does by default; those of the tests do not. A thread that
/// joins a moment after the other would find the work shared out without it, and half of it done twice.
const BROKER: &str = "group.initial.rebalance.delay.ms=3000\n";

/// Markers of transactions that may lie between the last record of a partition and its end.
const MARKERS_MAX: u64 = 2;

/// How often the broker is asked how far the group is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A broker with W2's events in a topic.
pub struct Fleet {
    folder: tempfile::TempDir,
    broker: Broker,
    events: u64,
}

/// What a run cost.
struct Cost {
    cpu: Duration,
    seconds: f64,
    peak_bytes: u64,
}

impl Fleet {
    /// Starts a broker and lets `clickstream ingest` write the events, which is the first figure.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start(events: u64) -> Result<Self> {
        let settings = |data: &Path, _: [u16; 2]| Ok(std::fs::write(data.join("more.properties"), BROKER)?);
        let fleet = Self { folder: tempfile::tempdir()?, broker: Broker::start_with(settings)?, events };
        let file = fleet.folder.path().join("w2.jsonl");
        write_events(&file, events)?;
        let ingest = format!("dataset: {{path: \"{}\", format: jsonl, pace: asFastAsPossible}}", file.display());
        let cost = fleet.ingest("written", "events", &ingest, events)?;
        fleet.print("fleet: ingest from a file, events per second", &cost, "");
        std::fs::remove_file(&file)?;
        Ok(fleet)
    }

    /// Synthetic events into a topic of their own.
    ///
    /// # Errors
    /// If the ingester fails.
    pub fn synthetic(&self, runs: usize) -> Result<()> {
        for run in 0..runs {
            let count = format!("synthetic: {{count: {}, realistic: true}}", self.events);
            let cost = self.ingest(&format!("synthetic-{run}"), &format!("synthetic-{run}"), &count, self.events)?;
            self.print("fleet: synthetic ingest, events per second", &cost, "reach ≥ 200,000");
        }
        Ok(())
    }

    /// W2 and the limit program in turns.
    ///
    /// # Errors
    /// If a run fails or its tables are not those of the limit program.
    pub fn w2(&self, runs: usize) -> Result<()> {
        self.compare(("w2", W2), runs, "reach ≥ 600,000", |fleet, manifest, programs| {
            fleet.check_tables(manifest, programs)
        })
    }

    /// Sessions of 30 minutes for each user and the limit program of W2 in turns: another computation over the same bytes.
    ///
    /// # Errors
    /// If a run fails, or does not count as many events as the limit program.
    pub fn sessions(&self, runs: usize) -> Result<()> {
        self.compare(("sessions", SESSIONS), runs, "", |fleet, manifest, programs| {
            fleet.check_count(manifest, programs)
        })
    }

    fn compare(
        &self,
        workload: (&str, &str),
        runs: usize,
        reach: &str,
        check: impl Fn(&Self, &Path, &[Limit]) -> Result<()>,
    ) -> Result<()> {
        let (mut limits, mut engines) = (Vec::new(), Vec::new());
        for run in 0..runs {
            let before = meter::cpu();
            let programs = self.limit()?;
            limits.push(self.per_million(meter::cpu() - before));
            let cost = self.process(workload, run, |manifest| check(self, manifest, &programs))?;
            engines.push(self.per_million(cost.cpu));
            self.print(&format!("fleet: {}, catching up, events per second", workload.0), &cost, reach);
            let mib = cost.peak_bytes as f64 / f64::from(1 << 20);
            println!("{:<52} {mib:>14.1}  reach ≤ 600", "fleet: peak memory in MiB");
        }
        let (limit, engine) = (meter::median(limits), meter::median(engines));
        println!("{:<52} {limit:>14.3}", "fleet: limit program of W2, CPU seconds per million");
        println!("{:<52} {engine:>14.3}  reach ≤ 1.5", format!("fleet: {}, CPU seconds per million", workload.0));
        println!("{:<52} {:>14.3}", format!("fleet: {} by the limit program", workload.0), engine / limit);
        Ok(())
    }

    fn print(&self, what: &str, cost: &Cost, reach: &str) {
        println!("{what:<52} {:>14.0}  {reach}", self.events as f64 / cost.seconds);
        println!("{:<52} {:>14.3}", "       its CPU seconds per million", self.per_million(cost.cpu));
    }

    fn per_million(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / (self.events as f64 / 1e6)
    }

    /// A pipeline of its own over a topic, so that it reads all of it.
    fn manifest(&self, name: &str, topic: &str, more: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("{name}.yaml"));
        let text = w2_over(name, &self.broker.address, (topic, PARTITIONS), more);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    fn ingest(&self, name: &str, topic: &str, source: &str, events: u64) -> Result<Cost> {
        let more = format!("  ingest:\n  - name: source\n    topic: {topic}\n    {source}\n");
        let manifest = self.manifest(name, topic, &more)?;
        set_up(&manifest)?;
        let mut ingester = Role::start("ingest", &manifest, &["--name", "source"])?;
        let series = "clickstream_ingest_events_total{ingester=\"source\"}";
        let clock = wait_for_work(&mut ingester, series)?;
        let address = format!("http://{}/metrics", ingester.health);
        ingester.running.wait_for(PATIENCE, || {
            let text = ureq::get(&address).call().ok()?.into_body().read_to_string().ok()?;
            text.lines().any(|line| line == "clickstream_ingest_complete{ingester=\"source\"} 1").then_some(())
        })?;
        let cost = cost_of(&ingester, clock)?;
        let written = ingester.figure(series)?.unwrap_or_default();
        ensure!(written == events as f64, "{written} of {events} events were written");
        ingester.end_in_order()?;
        Ok(cost)
    }

    /// Reads everything with a limit program for each partition.
    fn limit(&self) -> Result<Vec<Limit>> {
        let cluster = self.cluster()?;
        let consumer = Arc::new(cluster.create::<BaseConsumer<Logged>>(&cluster.batch_consumer("limit"))?);
        let mut queues: Vec<_> =
            (0..PARTITIONS).map(|partition| PartitionQueue::split(&consumer, "events", partition)).collect();
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset("events", partition as i32, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut programs: Vec<Limit> = queues.iter().map(|_| Limit::default()).collect();
        let (mut batch, mut read) = (RawBatch::default(), 0);
        let deadline = Instant::now() + PATIENCE;
        while read < self.events {
            consumer.poll(Duration::ZERO);
            let before = read;
            for (queue, program) in queues.iter_mut().zip(&mut programs) {
                batch.clear();
                queue.take(&mut batch, limits::MAP_READ_BYTES);
                let mut bounds = batch.bounds.iter().peekable();
                for record in &batch.records {
                    while let Some(bound) = bounds.next_if(|bound| bound.offset <= record.offset) {
                        program.bound(bound.low);
                    }
                    program.take(batch.payload(record));
                }
                read += batch.records.len() as u64;
            }
            if read == before {
                consumer.poll(Duration::from_millis(1));
                ensure!(Instant::now() < deadline, "the limit program read {read} of {} events", self.events);
            }
        }
        programs.iter_mut().for_each(Limit::end);
        Ok(programs)
    }

    fn process(
        &self,
        (workload, text): (&str, &str),
        run: usize,
        check: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Cost> {
        let name = format!("{workload}-{run}");
        let text = over((text, workload), &name, &self.broker.address, ("events", PARTITIONS), "");
        // The pipeline that wrote the events looks after their topic.
        let (topic, looks) = (format!("partitions: {PARTITIONS}}}"), "managementPolicy: Observe}");
        ensure!(text.contains(&topic) && text.contains(&name), "the manifest of {workload} has changed");
        let manifest = self.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&manifest, text.replace(&topic, &format!("partitions: {PARTITIONS}, {looks}")))?;
        set_up(&manifest)?;
        let mut process = Role::start("process", &manifest, &[])?;
        let clock = wait_for_work(&mut process, "clickstream_process_records_total{epoch=\"1\"}")?;
        let (cluster, names) = (self.cluster()?, Names::new(&name));
        let (topics, groups) = (["events".to_owned(), names.shuffle()], [names.process_group()]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = overview(&cluster, &topics, &groups)?;
            let is_read = |lag: u64| lag <= MARKERS_MAX;
            if found.iter().all(|place| place.end == 0 || place.groups.iter().any(|group| is_read(group.lag))) {
                break;
            }
            ensure!(!process.running.has_ended()?, "the processor ended too early");
            ensure!(Instant::now() < deadline, "the processor did not come to the end: {found:?}");
            std::thread::park_timeout(LOOK_EVERY);
        }
        let cost = cost_of(&process, clock)?;
        check(&manifest)?;
        process.end_in_order()?;
        Ok(cost)
    }

    /// The tables, as `clickstream serve` shows them, summed up, must be the limit programs'.
    fn check_tables(&self, manifest: &Path, programs: &[Limit]) -> Result<()> {
        let address = free_address()?;
        let mut serve = Role::start("serve", manifest, &["--listen", &address])?;
        let sums = |column: usize| -> i64 {
            programs.iter().flat_map(|program| &program.product_rows).map(|row| row.2[column]).sum()
        };
        let expected = [("views", sums(0)), ("carts", sums(1)), ("purchases", sums(2))];
        let sql = r#"{"sql":"select sum(views) as views, sum(carts) as carts, sum(purchases) as purchases from product_minutes"}"#;
        let mut last = None;
        let found = serve.running.wait_for(Duration::from_secs(60), || {
            let found = post(&format!("http://{address}/api/v1/sql"), sql).ok()?;
            let is_equal = expected.iter().all(|(name, value)| found["rows"][0][name].as_i64() == Some(*value));
            last = Some(found);
            is_equal.then_some(())
        });
        found.with_context(|| format!("the limit program has {expected:?}, the tables {last:?}"))?;
        serve.end_in_order().map(drop)
    }

    /// As many events must be counted as the limit programs accepted, and none be late.
    fn check_count(&self, manifest: &Path, programs: &[Limit]) -> Result<()> {
        let address = free_address()?;
        let mut serve = Role::start("serve", manifest, &["--listen", &address])?;
        // What comes too late for its minute does not for its session.
        let expected: u64 = programs.iter().map(|program| program.counts[0] + program.counts[3]).sum();
        let mut last = None;
        let found = serve.running.wait_for(Duration::from_secs(60), || {
            let answer = ureq::get(format!("http://{address}/api/v1/ledger")).call().ok()?;
            let found: serde_json::Value = serde_json::from_str(&answer.into_body().read_to_string().ok()?).ok()?;
            let table = &found["tables"][0];
            let is_equal = table["counted"] == expected && table["late"] == 0 && found["unaccounted"] == 0;
            last = Some(found);
            is_equal.then_some(())
        });
        found.with_context(|| format!("the limit program counted {expected}, the ledger says {last:?}"))?;
        serve.end_in_order().map(drop)
    }

    fn cluster(&self) -> Result<Cluster> {
        let manifest = self.manifest("asker", "events", "")?;
        let checked = pipeline::checked(&std::fs::read_to_string(manifest)?).map_err(anyhow::Error::msg)?;
        Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).map_err(anyhow::Error::new)
    }
}

/// Waits until a role counts its first events, and returns when that was.
fn wait_for_work(role: &mut Role, series: &str) -> Result<Instant> {
    role.wait_for_figure(series, |count| count > 0.0)?;
    Ok(Instant::now())
}

/// What a role cost so far, its start included; the time is that since `clock`.
fn cost_of(role: &Role, clock: Instant) -> Result<Cost> {
    let id = role.running.id();
    Ok(Cost { cpu: meter::cpu_of(id)?, seconds: clock.elapsed().as_secs_f64(), peak_bytes: meter::peak_bytes(id) })
}
