//! The first thing that clickstream is for, with everything that can go wrong: events by HTTP, over Kafka, to PostgreSQL, to
//! Couchbase and to the API; processor, sinks and ingester killed while they flow, either store away for a while.
//!
//! Needs PostgreSQL, Java and Maven (`tests/run` installs them). Couchbase is the double of this crate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{
    binary::{Running, clickstream, free_address, run},
    couchbase::{Double, PASSWORD},
    kafka::{self, Broker},
    roles::{get, wait},
    sales::{Rows, Shop, expected, out_of_order, over_http, row},
    servers::Server,
};
use tokio_postgres::NoTls;
use worker::kafka::names::Names;

/// From the answer of a post to the next.
const PAUSE: Duration = Duration::from_millis(25);

/// Events that have to reach one store while the other is away.
const MEANWHILE: i64 = 4_000;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

const SIGTERM: i32 = 15;

/// A role of the fleet that runs.
struct Role {
    running: Running,
    health: String,
}

impl Role {
    fn wait_until_ready(&mut self) {
        let address = format!("http://{}/readyz", self.health);
        self.running.wait_for(PATIENCE, || ureq::get(&address).call().ok()).unwrap();
    }

    fn end_in_order(self) {
        self.running.signal(SIGTERM).unwrap();
        let ended = self.running.wait(PATIENCE).unwrap();
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    }
}

fn role(name: &str, manifest: &Path, more: &[&str]) -> Command {
    let mut command = clickstream().unwrap();
    command.env("RUST_LOG", "info").arg(name).arg("--manifest").arg(manifest).args(more);
    command
}

/// A fleet with two stores.
struct Fleet {
    checked: crds::Checked,
    manifest: PathBuf,
    secrets: TempDir,
    page: String,
    collector: String,
    postgres: Server,
    couchbase: Double,
    broker: Broker,
    _directory: TempDir,
}

impl Fleet {
    fn set_up() -> Self {
        let (broker, postgres, couchbase) = (Broker::start().unwrap(), Server::postgres(), Double::start(2).unwrap());
        let (directory, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        couchbase.write_secret(secrets.path(), "couchbase").unwrap();
        fs::create_dir(secrets.path().join("postgres")).unwrap();
        let url = postgres.secrets.path().join("server/url");
        fs::copy(url, secrets.path().join("postgres/url")).unwrap();
        let collector = free_address().unwrap();
        let manifest = directory.path().join("pipeline.yaml");
        fs::write(&manifest, over_http(&broker.address, &collector).unwrap()).unwrap();
        let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
        let fleet = Self {
            checked,
            manifest,
            secrets,
            page: free_address().unwrap(),
            collector,
            postgres,
            couchbase,
            broker,
            _directory: directory,
        };
        fleet.make();
        fleet
    }

    /// Topics, bucket, scope and collection: the plan first, then all of it, then nothing.
    fn make(&self) {
        let set_up = |more: &[&str]| {
            let mut command = role("setup", &self.manifest, more);
            command.env("CLICKSTREAM_SECRETS", self.secrets.path());
            let ended = run(command, PATIENCE).unwrap();
            assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
            ended.stdout
        };
        let made = [
            "bucket category-sales with 256 MiB a node, 0 replicas",
            "scope analytics",
            "collection analytics.category_sales",
        ];
        let planned = set_up(&["--dry-run"]);
        assert!(made.iter().all(|step| planned.contains(&format!("would make {step}"))), "{planned}");
        assert!(self.couchbase.collections().is_empty(), "a look changed something");
        let told = set_up(&[]);
        assert!(made.iter().all(|step| told.contains(&format!("made {step}"))), "{told}");
        assert!(set_up(&[]).contains("the bucket is as it should be"));
        let there = self.couchbase.collections();
        assert_eq!(there, ["category-sales._default._default", "category-sales.analytics.category_sales"]);
    }

    /// Takes away what goes with a pipeline whose manifest says so: the collection, and not its bucket.
    fn delete(&self) {
        let delete = |more: &[&str]| {
            let arguments = [&["--delete", "-s", "deletionPolicy=Delete"], more].concat();
            let mut command = role("setup", &self.manifest, &arguments);
            command.env("CLICKSTREAM_SECRETS", self.secrets.path());
            let ended = run(command, PATIENCE).unwrap();
            assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
            ended.stdout
        };
        let before = self.couchbase.collections();
        assert!(delete(&["--dry-run"]).contains("would drop collection category-sales.analytics.category_sales\n"));
        assert_eq!(self.couchbase.collections(), before, "a look changed something");
        assert!(delete(&[]).contains("dropped collection category-sales.analytics.category_sales\n"));
        assert_eq!(self.couchbase.collections(), ["category-sales._default._default"]);
        assert!(!delete(&[]).contains("collection"), "there is nothing left");
    }

    /// A role that has the secrets; the password of Couchbase may be another one.
    fn start(&self, name: &str, more: &[&str], password: &str) -> Role {
        let health = free_address().unwrap();
        let mut command = role(name, &self.manifest, more);
        command.env("CLICKSTREAM_SECRETS", self.secrets.path());
        command.env("CLICKSTREAM_SECRET_COUCHBASE_PASSWORD", password).args(["--health-listen", &health]);
        Role { running: Running::start(command).unwrap(), health }
    }

    fn processor(&self) -> Role {
        self.start("process", &["--threads", "1"], PASSWORD)
    }

    fn sink(&self, name: &str) -> Role {
        self.start("sink", &["--name", name], PASSWORD)
    }

    fn ingester(&self) -> Role {
        self.start("ingest", &["--name", "checkout"], PASSWORD)
    }

    /// The rows of PostgreSQL; none while it is away.
    fn in_postgres(&self) -> Rows {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sql = "select to_char(window_start at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), category, \
                   total_sales::text, transaction_count from public.category_sales";
        let found = runtime.block_on(async {
            let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres.port);
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            client.query(sql, &[]).await
        });
        let total = |text: &str| engine::decimal::Decimal::parse(text.as_bytes()).unwrap().0;
        let row = |row: &tokio_postgres::Row| ((row.get(0), row.get(1)), (total(row.get(2)), row.get(3)));
        found.unwrap_or_default().iter().map(row).collect()
    }

    fn in_couchbase(&self) -> Rows {
        let documents = self.couchbase.documents("category-sales", "analytics", "category_sales").unwrap();
        let documents = documents.values().map(|document| serde_json::from_slice::<Value>(&document.value).unwrap());
        documents.filter(|document| document["deleted"] != true).map(|document| row(&document).unwrap()).collect()
    }

    fn in_api(&self) -> Rows {
        let found = get(&self.page, "/api/v1/tables/category_sales?limit=10000").unwrap_or_default();
        found["rows"].as_array().into_iter().flatten().map(|found| row(found).unwrap()).collect()
    }
}

/// What `/readyz` says.
fn readiness(role: &Role) -> Option<(u16, String)> {
    let request = ureq::get(format!("http://{}/readyz", role.health)).config().http_status_as_error(false).build();
    let answer = request.call().ok()?;
    Some((answer.status().as_u16(), answer.into_body().read_to_string().ok()?))
}

/// Records that a sink has not written yet, as its metrics say.
fn lag(role: &Role) -> Option<u64> {
    let answer = ureq::get(format!("http://{}/metrics", role.health)).call().ok()?;
    let text = answer.into_body().read_to_string().ok()?;
    let figure = text.lines().find_map(|line| line.strip_prefix("clickstream_sink_lag_records "))?;
    figure.parse().ok()
}

/// Waits until the lag of a sink whose store is away has grown twice.
fn lag_grows(sink: &Role, store: &str) {
    let some = wait(&format!("{store}: a lag"), || lag(sink), |lag| lag.is_some_and(|lag| lag > 0));
    let more = wait(&format!("{store}: a lag beyond {some:?}"), || lag(sink), |lag| *lag > some);
    println!("{store} away: its sink tells a lag of {some:?}, then {more:?}");
}

/// Members of a sink's group.
fn members(fleet: &Fleet, sink: &str) -> Option<usize> {
    kafka::members(&fleet.broker.address, &Names::new("category-sales").sink_group(sink)).unwrap()
}

/// Events that the rows count.
fn counted(rows: &Rows) -> i64 {
    rows.values().map(|(_, count)| count).sum()
}

/// Waits until both stores count more events than were sold when this was called.
fn both_go_on(fleet: &Fleet, shop: &Shop, after: &str) {
    let (begun, sold) = (Instant::now(), shop.sold() as i64);
    let stores = || (counted(&fleet.in_postgres()), counted(&fleet.in_couchbase()));
    let seen = wait(after, stores, |(postgres, couchbase)| *postgres > sold && *couchbase > sold);
    println!("{after}: both stores beyond {sold} after {:.1} s, at {seen:?}", begun.elapsed().as_secs_f64());
}

/// A sink with a wrong password is not ready, says why, and ends in order.
fn wrong_password(fleet: &Fleet) {
    let begun = Instant::now();
    let sink = fleet.start("sink", &["--name", "results"], "wrong");
    let told = "refuses the username and password of the secret";
    let said =
        |seen: &Option<(u16, String)>| seen.as_ref().is_some_and(|(code, text)| *code == 503 && text.contains(told));
    wait("a wrong password", || readiness(&sink), said);
    println!("a wrong password is told after {:.1} s", begun.elapsed().as_secs_f64());
    sink.end_in_order();
}

#[test]
fn sales_reach_every_store_whoever_is_killed_meanwhile() {
    let mut fleet = Fleet::set_up();
    wrong_password(&fleet);
    let page = fleet.page.clone();
    let mut serve = fleet.start("serve", &["--listen", &page], PASSWORD);
    let (mut ingester, mut processor) = (fleet.ingester(), fleet.processor());
    let (mut results, mut postgres) = (fleet.sink("results"), fleet.sink("postgres"));
    for role in [&mut serve, &mut ingester, &mut processor, &mut results, &mut postgres] {
        role.wait_until_ready();
    }
    let start = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() - 3_600_000;
    let shop = Shop::open(format!("http://{}/v1/events", fleet.collector), start, PAUSE);
    both_go_on(&fleet, &shop, "the first events");

    processor.running.kill().unwrap();
    processor = fleet.processor();
    both_go_on(&fleet, &shop, "processor killed");

    results.running.kill().unwrap();
    postgres.running.kill().unwrap();
    (results, postgres) = (fleet.sink("results"), fleet.sink("postgres"));
    both_go_on(&fleet, &shop, "both sinks killed");

    ingester.running.kill().unwrap();
    ingester = fleet.ingester();
    both_go_on(&fleet, &shop, "ingester killed");

    // Couchbase away: its sink says so, PostgreSQL's goes on.
    [0, 1].into_iter().for_each(|node| fleet.couchbase.stop(node));
    let (before, away) = (counted(&fleet.in_postgres()), counted(&fleet.in_couchbase()));
    wait("without Couchbase", || counted(&fleet.in_postgres()), |now| *now > before + MEANWHILE);
    wait("its sink", || readiness(&results), |seen| seen.as_ref().is_some_and(|(code, _)| *code == 503));
    lag_grows(&results, "Couchbase");
    assert_eq!(counted(&fleet.in_couchbase()), away, "nobody could write");
    for node in [0, 1] {
        fleet.couchbase.resume(node).unwrap();
    }
    both_go_on(&fleet, &shop, "Couchbase away");

    fleet.postgres.kill();
    let before = counted(&fleet.in_couchbase());
    wait("without PostgreSQL", || counted(&fleet.in_couchbase()), |now| *now > before + MEANWHILE);
    lag_grows(&postgres, "PostgreSQL");
    // The group gives the partition anew while a batch waits to be written: to either of them.
    let other = fleet.sink("postgres");
    wait("a stand-by joins", || members(&fleet, "postgres"), |members| *members == Some(2));
    fleet.postgres.restart();
    both_go_on(&fleet, &shop, "PostgreSQL away");

    // And certainly back to the first, which once held up what it waited for.
    other.running.kill().unwrap();
    wait("the stand-by is gone", || members(&fleet, "postgres"), |members| *members == Some(1));
    both_go_on(&fleet, &shop, "its stand-by killed");

    let sold = shop.close().unwrap();
    let ledger = || get(&page, "/api/v1/ledger").unwrap_or_default();
    let all = wait("the ledger", ledger, |all| all["tables"][0]["counted"] == sold && all["unaccounted"] == 0);
    assert_eq!(all["tables"][0]["late"], 0, "{all}");
    let expected = expected(&fleet.checked).unwrap();
    assert_eq!(counted(&expected), sold as i64, "every event once, however often it was posted");
    assert_eq!(out_of_order(&fleet.checked).unwrap(), 0, "events of a partition come in the order of their posts");
    wait("the API", || fleet.in_api(), |rows| *rows == expected);
    wait("PostgreSQL", || fleet.in_postgres(), |rows| *rows == expected);
    wait("Couchbase", || fleet.in_couchbase(), |rows| *rows == expected);
    println!("{sold} events, {} rows everywhere, unaccounted {}", expected.len(), all["unaccounted"]);
    for role in [ingester, results, postgres, processor, serve] {
        role.end_in_order();
    }
    fleet.delete();
}
