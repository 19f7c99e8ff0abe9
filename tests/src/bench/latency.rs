//! From an event to its row, in PostgreSQL and by the API, while 50,000 other events a second make 2,000 rows; and how long
//! that takes again after a processor was killed.
//!
//! A probe is an event of a group of its own, sent to the collector like any other: it has arrived when its row is there.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::{
    load::{Load, percentile, send, wait_until, write_event},
    product::{post, w2_over},
};
use crate::{
    binary::free_address,
    kafka::Broker,
    roles::{Role, SIGKILL, role, set_up},
    servers::Server,
};

/// Other events a second.
const RATE: u64 = 50_000;

/// Their groups. Each has a new row twice a second, so that at most 2,000 rows change a second.
const PRODUCTS: u64 = 980;

/// How often rows leave: within half of what is promised.
const EMIT: &str = "    emit: {every: 500ms}\n";

/// Before the first probe counts.
const WARM_UP: Duration = Duration::from_secs(10);

/// How long probes are sent.
const LENGTH: Duration = Duration::from_secs(40);

/// From a probe to the next.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// From a look for probes to the next: what figures may be too high by.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the last probes may take.
const ARRIVE_TIME_MAX: Duration = Duration::from_secs(60);

/// A probe that took longer was not delayed by the ordinary, of which 99 in 100 take less.
const RECOVERED: Duration = Duration::from_secs(2);

/// When a probe was sent, and when a place showed it.
#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Instant,
    seen: [Option<Instant>; 2],
}

/// Places that show rows.
const PLACES: [&str; 2] = ["PostgreSQL", "API"];

/// All probes, by name.
#[derive(Default)]
struct Probes(Mutex<BTreeMap<String, Probe>>);

impl Probes {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Probe>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names that a place has not shown yet.
    fn missing(&self, place: usize) -> Vec<String> {
        self.with(|all| {
            all.iter().filter(|(_, probe)| probe.seen[place].is_none()).map(|(name, _)| name.clone()).collect()
        })
    }

    fn saw(&self, place: usize, names: &[String]) {
        let now = Instant::now();
        self.with(|all| {
            names.iter().filter_map(|name| all.get_mut(name).map(|probe| probe.seen[place] = Some(now))).count()
        });
    }
}

/// A fleet under load.
struct World {
    processors: Vec<Role>,
    others: Vec<Role>,
    collector: String,
    page: String,
    postgres: Server,
    _broker: Broker,
    _folder: TempDir,
}

impl World {
    fn start(processors: usize) -> Result<Self> {
        let (folder, broker, postgres) = (tempfile::tempdir()?, Broker::start()?, Server::postgres());
        let (collector, page) = (free_address()?, free_address()?);
        let (_, port) = collector.rsplit_once(':').context("an address has a port")?;
        let more = format!(
            "  ingest:\n  - name: source\n    topic: events\n    http: {{port: {port}}}\n  sinks:\n  - name: rows\n    \
             tables: [product_minutes, category_minutes]\n    postgres: {{connectionSecret: server, schema: public}}\n"
        );
        let manifest: PathBuf = folder.path().join("latency.yaml");
        let text = w2_over("latency", &broker.address, ("events", 4), &more);
        std::fs::write(&manifest, text.replace("    from: events\n", &format!("    from: events\n{EMIT}")))?;
        set_up(&manifest)?;
        let start = |name: &str, more: &[&str]| {
            let mut command = role(name, &manifest, more)?;
            command.env("CLICKSTREAM_SECRETS", postgres.secrets.path());
            Role::start_as(command)
        };
        let processors = (0..processors).map(|_| start("process", &["--threads", "1"])).collect::<Result<_>>()?;
        let others = vec![
            start("ingest", &["--name", "source"])?,
            start("sink", &["--name", "rows"])?,
            start("serve", &["--listen", &page])?,
        ];
        let mut world = Self { processors, others, collector, page, postgres, _broker: broker, _folder: folder };
        world.processors.iter_mut().chain(&mut world.others).try_for_each(Role::wait_until_ready)?;
        Ok(world)
    }

    fn end(self) -> Result<()> {
        self.others.into_iter().chain(self.processors).try_for_each(|role| role.end_in_order().map(drop))
    }

    fn url(&self) -> String {
        format!("http://{}/v1/events", self.collector)
    }

    /// Sends load and probes; `meanwhile` may disturb.
    fn probe(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<Vec<Probe>> {
        let (probes, stop, seen) = (Probes::default(), AtomicBool::new(false), AtomicBool::new(false));
        let load = Load { url: self.url(), connections: 8, per_second: Some(RATE), products: PRODUCTS };
        thread::scope(|scope| {
            let sending = scope.spawn(|| load.run(&stop));
            let looking = [
                scope.spawn(|| self.look_into_postgres(&probes, &seen)),
                scope.spawn(|| look(&probes, 1, &seen, |names| self.in_api(names))),
            ];
            let outcome = self.send_probes(&probes).and_then(|()| meanwhile());
            let outcome = outcome.and_then(|()| self.send_probes(&probes)).and_then(|()| wait_for_all(&probes));
            stop.store(true, Ordering::Release);
            seen.store(true, Ordering::Release);
            let sent = sending.join().ok().context("the load broke down")??;
            for thread in looking {
                thread.join().ok().context("looking for probes broke down")??;
            }
            ensure!(sent.events > 0, "no load");
            outcome
        })?;
        Ok(probes.with(|all| all.values().copied().collect()))
    }

    /// Half the length.
    fn send_probes(&self, probes: &Probes) -> Result<()> {
        let agent = ureq::Agent::new_with_defaults();
        let (start, first) = (Instant::now(), probes.with(|all| all.len() as u64));
        let mut body = Vec::new();
        for number in 0.. {
            let due = start + PROBE_EVERY * number;
            wait_until(due);
            if start.elapsed() >= (WARM_UP + LENGTH) / 2 {
                return Ok(());
            }
            let number = first + u64::from(number);
            let name = format!("probe_{number:06}");
            body.clear();
            write_event(("probe", number), &format_args!("user_{number}"), &name, worker::clock::now(), &mut body);
            probes.with(|all| all.insert(name, Probe { sent: Instant::now(), seen: [None; 2] }));
            send(&agent, &self.url(), &body)?;
        }
        Ok(())
    }

    fn in_api(&self, names: &[String]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        let sql = format!("select product_id from product_minutes where product_id in ({})", names.join(","));
        let found = post(&format!("http://{}/api/v1/sql", self.page), &serde_json::json!({ "sql": sql }).to_string())?;
        let rows = found["rows"].as_array().context("no rows")?;
        Ok(rows.iter().filter_map(|row| row["product_id"].as_str().map(str::to_owned)).collect())
    }

    fn look_into_postgres(&self, probes: &Probes, seen: &AtomicBool) -> Result<()> {
        let url = std::fs::read_to_string(self.postgres.secrets.path().join("server/url"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            anyhow::Ok(client)
        })?;
        let sql = "select distinct product_id from public.product_minutes where product_id = any($1)";
        look(probes, 0, seen, |names| {
            let rows = runtime.block_on(client.query(sql, &[&names]))?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }
}

/// Asks a place for probes that it has not shown until everything is seen.
fn look(
    probes: &Probes,
    place: usize,
    seen: &AtomicBool,
    ask: impl Fn(&[String]) -> Result<Vec<String>>,
) -> Result<()> {
    while !seen.load(Ordering::Acquire) {
        let missing = probes.missing(place);
        if !missing.is_empty() {
            probes.saw(place, &ask(&missing)?);
        }
        thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

fn wait_for_all(probes: &Probes) -> Result<()> {
    let deadline = Instant::now() + ARRIVE_TIME_MAX;
    for (place, name) in PLACES.iter().enumerate() {
        while !probes.missing(place).is_empty() {
            ensure!(Instant::now() < deadline, "{name} never showed {:?}", probes.missing(place));
            thread::park_timeout(LOOK_EVERY);
        }
    }
    Ok(())
}

/// Prints how long events take to their rows.
///
/// # Errors
/// If something does not start, or an event never becomes a row.
pub fn latency() -> Result<()> {
    let world = World::start(1)?;
    let begun = Instant::now();
    let probes = world.probe(|| Ok(()))?;
    for (place, name) in PLACES.iter().enumerate() {
        let warm = probes.iter().filter(|probe| probe.sent - begun > WARM_UP);
        let mut times: Vec<Duration> = warm.filter_map(|probe| Some(probe.seen[place]? - probe.sent)).collect();
        let (p95, p99) = (percentile(&mut times, 95), percentile(&mut times, 99));
        println!("{:<52} {p95:>14.0}  reach < 1,000", format!("latency: event to row in {name}, p95 in milliseconds"));
        println!("{:<52} {p99:>14.0}  reach < 2,000", format!("latency: the same, p99 of {}", times.len()));
    }
    world.end()
}

/// Prints how long it takes after the death of one of two processors until events become rows within two seconds again.
///
/// # Errors
/// As [`latency`].
pub fn recovery() -> Result<()> {
    let mut world = World::start(2)?;
    let victim = world.processors.remove(0);
    let killed = Mutex::new(None);
    let probes = world.probe(|| {
        victim.running.signal(SIGKILL)?;
        *killed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    })?;
    let killed = killed.into_inner().unwrap_or_else(PoisonError::into_inner).context("nobody was killed")?;
    for (place, name) in PLACES.iter().enumerate() {
        let late = probes.iter().filter_map(|probe| Some((probe.sent, probe.seen[place]?)));
        let late = late.filter(|(sent, seen)| *seen > killed && *seen - *sent > RECOVERED);
        let seconds = late.map(|(_, seen)| (seen - killed).as_secs_f64()).fold(0.0, f64::max);
        println!(
            "{:<52} {seconds:>14.1}  reach < 15",
            format!("recovery: kill -9 until rows in {name} are fresh, seconds")
        );
    }
    drop(victim.running.kill()?);
    world.end()
}
