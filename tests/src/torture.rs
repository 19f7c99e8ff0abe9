//! What is tortured: the example category-sales over three brokers, into PostgreSQL, Redis, Couchbase's double and the API,
//! with a process for every role.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use engine::decimal::Decimal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{free_address, root, run},
    couchbase::{Double, PASSWORD},
    kafka::Trio,
    roles::{PATIENCE, Role, SIGKILL, SIGTERM, role, wait},
    sales::{Rows, counted, expected, row},
    servers::Server,
};

/// From a fault to the moment when every store shows more than all that had been sold before it. The promise.
pub const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Half of all times are less than this; what takes longer is shown with its reasons.
pub const RECOVERY_TYPICAL: Duration = Duration::from_secs(15);

/// Pause between two looks at the stores: a look costs some tens of rows each.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Lines of a role's log that are shown when it did not go on.
const LAST_WORDS: usize = 25;

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The API of `serve`.
    Api,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// The double of Couchbase.
    Couchbase,
}

/// All of them.
pub const EVERYWHERE: [Place; 4] = [Place::Api, Place::Postgres, Place::Redis, Place::Couchbase];

/// Keys of the rows in Redis begin with this.
const KEYS: &str = "sales:";

/// The whole of it.
pub struct World {
    /// The manifest.
    pub checked: crds::Checked,
    /// The brokers.
    pub kafka: Trio,
    /// A store.
    pub postgres: Server,
    /// Another.
    pub redis: Server,
    /// A third.
    pub couchbase: Double,
    /// Serves the tables.
    pub serve: Role,
    /// Makes the events.
    pub ingest: Role,
    /// Turn them into rows.
    pub processors: Vec<Role>,
    /// The sink to Couchbase.
    pub results: Role,
    /// The sink to PostgreSQL.
    pub rows: Role,
    /// The sink to Redis.
    pub hashes: Role,
    /// Events that were made, as they were last told: a dead ingester tells nothing.
    sold: i64,
    /// How long each blow was felt.
    recoveries: Vec<Duration>,
    roles: Roles,
}

/// How roles are started.
struct Roles {
    manifest: PathBuf,
    secrets: TempDir,
    page: String,
    _directory: TempDir,
}

impl Roles {
    fn start(&self, name: &str, more: &[&str]) -> Result<Role> {
        let mut command = role(name, &self.manifest, more)?;
        command.env("CLICKSTREAM_SECRETS", self.secrets.path());
        command.env("CLICKSTREAM_SECRET_COUCHBASE_PASSWORD", PASSWORD);
        Role::start_as(command)
    }

    fn ingest(&self) -> Result<Role> {
        self.start("ingest", &["--name", "checkout"])
    }

    fn serve(&self) -> Result<Role> {
        self.start("serve", &["--listen", &self.page])
    }
}

impl World {
    /// Starts everything but processors, with so many events a second.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn start(rate: u64) -> Result<Self> {
        let (kafka, couchbase) = (Trio::start()?, Double::start(2)?);
        let (postgres, redis) = (Server::postgres(), Server::redis());
        let (directory, secrets) = (tempfile::tempdir()?, tempfile::tempdir()?);
        couchbase.write_secret(secrets.path(), "couchbase")?;
        for (name, server) in [("postgres", &postgres), ("redis", &redis)] {
            fs::create_dir(secrets.path().join(name))?;
            fs::copy(server.secrets.path().join("server/url"), secrets.path().join(name).join("url"))?;
        }
        let manifest = directory.path().join("pipeline.yaml");
        fs::write(&manifest, example(&kafka.bootstrap, rate)?)?;
        let checked = crds::check(&fs::read_to_string(&manifest)?, &[]);
        let checked = checked.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let roles = Roles { manifest, secrets, page: free_address()?, _directory: directory };
        let mut set_up = role("setup", &roles.manifest, &[])?;
        set_up.env("CLICKSTREAM_SECRETS", roles.secrets.path());
        let ended = run(set_up, PATIENCE)?;
        ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        let mut world = Self {
            checked,
            postgres,
            redis,
            couchbase,
            serve: roles.serve()?,
            ingest: roles.ingest()?,
            processors: Vec::new(),
            results: roles.start("sink", &["--name", "results"])?,
            rows: roles.start("sink", &["--name", "postgres"])?,
            hashes: roles.start("sink", &["--name", "redis"])?,
            sold: 0,
            recoveries: Vec::new(),
            kafka,
            roles,
        };
        for role in world.singles() {
            role.wait_until_ready()?;
        }
        Ok(world)
    }

    /// Starts one more processor.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn add_processor(&mut self) -> Result<()> {
        self.processors.push(self.roles.start("process", &["--threads", "1"])?);
        Ok(())
    }

    /// Kills a role as a power cut does, and starts its successor.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self, which: Which) -> Result<()> {
        self.of(which).running.signal(SIGKILL)?;
        let successor = match which {
            Which::Serve => self.roles.serve(),
            Which::Ingest => self.roles.ingest(),
            Which::Results => self.roles.start("sink", &["--name", "results"]),
            Which::Rows => self.roles.start("sink", &["--name", "postgres"]),
            Which::Hashes => self.roles.start("sink", &["--name", "redis"]),
        };
        std::mem::replace(self.of(which), successor?).running.kill()?;
        Ok(())
    }

    fn of(&mut self, which: Which) -> &mut Role {
        match which {
            Which::Serve => &mut self.serve,
            Which::Ingest => &mut self.ingest,
            Which::Results => &mut self.results,
            Which::Rows => &mut self.rows,
            Which::Hashes => &mut self.hashes,
        }
    }

    /// Roles of which there is one.
    fn singles(&mut self) -> [&mut Role; 5] {
        [&mut self.serve, &mut self.ingest, &mut self.results, &mut self.rows, &mut self.hashes]
    }

    /// The sinks.
    pub fn sinks(&mut self) -> [&mut Role; 3] {
        [&mut self.results, &mut self.rows, &mut self.hashes]
    }

    /// All roles.
    pub fn everybody(&mut self) -> Vec<&mut Role> {
        let mut everybody =
            vec![&mut self.serve, &mut self.ingest, &mut self.results, &mut self.rows, &mut self.hashes];
        everybody.extend(&mut self.processors);
        everybody
    }

    /// Ends the ingester in order, and compares the ledger and what every place shows with what the naive reference says of
    /// the raw topic; how many events there were.
    ///
    /// # Errors
    /// If the ingester does not end, or the topic cannot be read.
    ///
    /// # Panics
    /// If somebody shows other rows, or the ledger does not add up, with what was seen last.
    pub fn prove(&mut self, after: &str) -> Result<i64> {
        self.ingest.running.signal(SIGTERM)?;
        let begun = Instant::now();
        while !self.ingest.running.has_ended()? {
            ensure!(begun.elapsed() < PATIENCE, "the ingester does not end");
            std::thread::park_timeout(LOOK_EVERY);
        }
        let begun = Instant::now();
        let expected = expected(&self.checked)?;
        let sold = counted(&expected);
        let took = begun.elapsed().as_secs_f64();
        let ledger = || self.ask("/api/v1/ledger").unwrap_or_default();
        let all = wait("the ledger", ledger, |all| all["tables"][0]["counted"] == sold && all["unaccounted"] == 0);
        ensure!(all["streams"][0]["read"] == sold, "{after}: {all}");
        for place in EVERYWHERE {
            wait(&format!("{place:?} after {after}"), || self.shown(place), |rows| *rows == expected);
        }
        self.sold = sold;
        println!(
            "{after}: {sold} events, {} rows everywhere, unaccounted 0; read again in {took:.0} s",
            expected.len()
        );
        Ok(sold)
    }

    /// Goes on after a proof.
    ///
    /// # Errors
    /// If the ingester cannot be started.
    pub fn resume(&mut self) -> Result<()> {
        self.ingest = self.roles.ingest()?;
        self.ingest.wait_until_ready()
    }

    /// Events that are in Kafka for certain.
    pub fn sold(&mut self) -> i64 {
        let told = self.ingest.figure("clickstream_ingest_events_total{ingester=\"checkout\"}");
        let told = told.ok().flatten().unwrap_or_default();
        self.sold = self.sold.max(told as i64);
        self.sold
    }

    /// Rows as a place shows them; none while it does not answer.
    #[must_use]
    pub fn shown(&self, place: Place) -> Rows {
        match place {
            Place::Api => self.in_api(),
            Place::Postgres => self.in_postgres().unwrap_or_default(),
            Place::Redis => self.in_redis().unwrap_or_default(),
            Place::Couchbase => self.in_couchbase(),
        }
    }

    fn in_api(&self) -> Rows {
        let found = self.ask("/api/v1/tables/category_sales?limit=10000").unwrap_or_default();
        found["rows"].as_array().into_iter().flatten().filter_map(|found| row(found).ok()).collect()
    }

    fn in_redis(&self) -> Result<Rows> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/0", self.redis.port))?;
        let mut connection = client.get_connection_with_timeout(LOOK_EVERY)?;
        let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{KEYS}*")).query(&mut connection)?;
        let mut rows = Rows::new();
        for key in keys {
            let mut row: BTreeMap<String, String> = redis::cmd("HGETALL").arg(&key).query(&mut connection)?;
            if row.contains_key("_deleted") {
                continue;
            }
            let mut take = |name: &str| row.remove(name).with_context(|| format!("{key} has no {name}"));
            let total = Decimal::parse(take("total_sales")?.as_bytes()).context("no decimal")?;
            let values = (total.0, take("transaction_count")?.parse()?);
            rows.insert((take("window_start")?, take("category")?), values);
        }
        Ok(rows)
    }

    fn in_couchbase(&self) -> Rows {
        let documents = self.couchbase.documents("category-sales", "analytics", "category_sales").unwrap_or_default();
        let documents = documents.values().filter_map(|it| serde_json::from_slice::<Value>(&it.value).ok());
        documents.filter(|document| document["deleted"] != true).filter_map(|document| row(&document).ok()).collect()
    }

    fn in_postgres(&self) -> Result<Rows> {
        let sql = "select to_char(window_start at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as window_start, \
                   category, total_sales::text as total_sales, transaction_count from public.category_sales";
        let url = fs::read_to_string(self.postgres.secrets.path().join("server/url"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            client.query(sql, &[]).await
        })?;
        let rows = found.iter().map(|row| {
            let total: &str = row.get(2);
            let total = Decimal::parse(total.as_bytes()).context("no decimal")?;
            Ok(((row.get(0), row.get(1)), (total.0, row.get(3))))
        });
        rows.collect()
    }

    /// What the API answers.
    #[must_use]
    pub fn ask(&self, path: &str) -> Option<Value> {
        let answer = ureq::get(format!("http://{}{path}", self.roles.page)).call().ok()?;
        serde_json::from_str(&answer.into_body().read_to_string().ok()?).ok()
    }

    /// Waits until all of `places` count more events than `sold`, and tells after how long each did.
    ///
    /// # Errors
    /// With what was seen last, if that takes longer than is promised.
    pub fn go_on(&self, what: &str, since: Instant, sold: i64, places: &[Place]) -> Result<Duration> {
        let mut left = places.to_vec();
        let mut told = Vec::new();
        loop {
            let seen: Vec<(Place, i64)> = left.iter().map(|place| (*place, counted(&self.shown(*place)))).collect();
            let passed = since.elapsed();
            for (place, _) in seen.iter().filter(|(_, count)| *count > sold) {
                left.retain(|other| other != place);
                told.push(format!("{place:?} {:.1} s", passed.as_secs_f64()));
            }
            if left.is_empty() {
                println!("{what}: beyond {sold} events after {}", told.join(", "));
                if passed > RECOVERY_TYPICAL {
                    println!("{}", self.last_words());
                }
                return Ok(passed);
            }
            ensure!(
                passed < RECOVERY_MAX,
                "{what}: beyond {sold} in {RECOVERY_MAX:?}? {seen:?}\n{}",
                self.last_words()
            );
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// The end of every role's log.
    fn last_words(&self) -> String {
        let sinks = [("results", &self.results), ("rows", &self.rows), ("hashes", &self.hashes)];
        let roles = [("serve", &self.serve), ("ingest", &self.ingest)].into_iter().chain(sinks);
        let roles = roles.chain(self.processors.iter().map(|processor| ("process", processor)));
        let words = roles.map(|(name, role)| {
            let all = role.running.complaints();
            let lines: Vec<&str> = all.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n"))
        });
        words.collect()
    }

    /// Notes what was sold, strikes, and waits until every place has gone beyond that.
    ///
    /// # Errors
    /// As [`World::go_on`], or if the blow fails.
    pub fn endure(&mut self, what: &str, blow: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let (sold, since) = (self.sold(), Instant::now());
        blow(self)?;
        let passed = self.go_on(what, since, sold, &EVERYWHERE)?;
        self.recoveries.push(passed);
        Ok(())
    }

    /// How long blows were felt: of how many, the median, and the longest.
    ///
    /// # Panics
    /// Before the first blow.
    #[must_use]
    pub fn recoveries(&self) -> (usize, Duration, Duration) {
        let mut all = self.recoveries.clone();
        all.sort_unstable();
        (all.len(), all[all.len() / 2], all[all.len() - 1])
    }
}

/// Roles of which there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Serves the tables.
    Serve,
    /// Makes the events.
    Ingest,
    /// The sink to Couchbase.
    Results,
    /// The sink to PostgreSQL.
    Rows,
    /// The sink to Redis.
    Hashes,
}

/// The example with a rate, three copies, checkpoints every six seconds, and a memory for ids that leaves room on the disk:
/// every checkpoint holds it whole, and nothing of five minutes is compacted.
fn example(bootstrap: &str, rate: u64) -> Result<String> {
    let mut text = fs::read_to_string(root().join("examples/category-sales.yaml"))?;
    let changes = [
        ("kafka-bootstrap:9092", format!("\"{}\"", bootstrap.replace(',', "\", \""))),
        ("partitions: 4", "partitions: 4\n    replicationFactor: 3".into()),
        ("eventsPerSecond: 1000", format!("eventsPerSecond: {rate}")),
        ("deduplicateWithin: 15m", "deduplicateWithin: 10s".into()),
        ("outOfOrderness: 1m", "outOfOrderness: 30s".into()),
        ("    replicas: 2\n", "    checkpoints: {every: 6s}\n".into()),
        (
            "  sinks:\n",
            format!(
                "  sinks:\n  - {{name: redis, tables: [category_sales], redis: {{connectionSecret: redis, keyPrefix: '{KEYS}'}}}}\n"
            ),
        ),
    ];
    for (from, to) in changes {
        ensure!(text.contains(from), "the example has changed: no {from}");
        text = text.replace(from, &to);
    }
    Ok(text)
}
