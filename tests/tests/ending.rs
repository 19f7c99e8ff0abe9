//! Roles that are asked to end while the broker sleeps and the database is gone: they do, in time, with exit code 0; what they
//! had not finished is there after the next start, and so is what they knew: an event from before that comes again is a duplicate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    time::{Duration, Instant, UNIX_EPOCH},
};

use serde_json::Value;
use tests::{
    binary::free_address,
    kafka::Broker,
    roles::{PATIENCE, Role, SIGCONT, SIGSTOP, SIGTERM, role, set_up, wait},
    sales::{BATCH, Shop, over_http},
    servers::Server,
};

/// In which a role ends: 30 s, and what it takes to say so on a busy machine.
const END_MAX: Duration = Duration::from_secs(40);

fn start(name: &str, manifest: &Path, secrets: &Path, more: &[&str]) -> Role {
    let mut command = role(name, manifest, more).unwrap();
    command.env("CLICKSTREAM_SECRETS", secrets);
    Role::start_as(command).unwrap()
}

fn ledger(page: &str) -> Value {
    let told = ureq::get(format!("http://{page}/api/v1/ledger")).call().ok();
    let text = told.and_then(|answer| answer.into_body().read_to_string().ok()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn roles_end_in_time_while_brokers_and_stores_are_away_and_lose_nothing() {
    let (broker, mut postgres, directory) =
        (Broker::start().unwrap(), Server::postgres(), tempfile::tempdir().unwrap());
    let (manifest, secrets) = (directory.path().join("pipeline.yaml"), directory.path().join("secrets"));
    fs::create_dir_all(secrets.join("postgres")).unwrap();
    fs::copy(postgres.secrets.path().join("server/url"), secrets.join("postgres/url")).unwrap();
    let [collector, page] = [(); 2].map(|()| free_address().unwrap());
    let text = over_http(&broker.address, &collector).unwrap();
    // The other sink wants a Couchbase, which is not asked for here.
    let (before, rest) = text.split_once("  - name: results\n").unwrap();
    let (_, after) = rest.split_once("  - name: postgres\n").unwrap();
    fs::write(&manifest, format!("{before}  - name: postgres\n{after}")).unwrap();
    set_up(&manifest).unwrap();
    let all = || {
        let more: [(&str, &[&str]); 3] =
            [("process", &["--threads", "1"]), ("sink", &["--name", "postgres"]), ("ingest", &["--name", "checkout"])];
        let mut roles = more.map(|(name, more)| start(name, &manifest, &secrets, more));
        roles.iter_mut().for_each(|role| role.wait_until_ready().unwrap());
        roles
    };
    let [mut process, mut sink, mut ingest] = all();
    let start_at = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() - 3_600_000;
    let shop = Shop::open(format!("http://{collector}/v1/events"), start_at, Duration::from_millis(25));
    sink.wait_for_figure("clickstream_sink_records_total", |records| records > 20.0).unwrap();

    let sold_before = shop.sold();
    postgres.kill();
    sink.wait_for_figure("clickstream_sink_failures_total", |failures| failures > 0.0).unwrap();
    broker.process.signal(SIGSTOP).unwrap();
    [&mut process, &mut ingest].into_iter().for_each(|role| role.wait_until_unready().unwrap());
    let asked = Instant::now();
    [&process, &sink, &ingest].into_iter().for_each(|role| role.running.signal(SIGTERM).unwrap());
    for (name, role) in [("process", process), ("sink", sink), ("ingest", ingest)] {
        let ended = role.running.wait(END_MAX).unwrap();
        let (took, told) = (asked.elapsed(), ended.stderr.contains("ending after 30 s without"));
        println!("{name}: ended by {:.1} s, unfinished: {told}", took.as_secs_f64());
        assert!(ended.status.success() && took < END_MAX, "{name} after {took:?}: {}{}", ended.stdout, ended.stderr);
    }

    broker.process.signal(SIGCONT).unwrap();
    postgres.restart();
    let [process, mut sink, ingest] = all();
    let mut serve = start("serve", &manifest, &secrets, &["--listen", &page]);
    // What came before the restart comes again behind it: the memory for ids outlives who had it.
    let again = shop.post_again(sold_before - BATCH);
    assert_eq!(again.unwrap(), 200);
    let sold = shop.close().unwrap();
    let is_all = |told: &Value| {
        let known = told["streams"][0]["duplicate"].as_u64().is_some_and(|known| known >= BATCH);
        told["tables"][0]["counted"] == sold && told["unaccounted"] == 0 && known
    };
    wait("every event once", || ledger(&page), is_all);
    sink.wait_for_figure("clickstream_sink_lag_records", |lag| lag == 0.0).unwrap();
    // What is left at the ends of the raw partitions are markers of transactions: nothing waits there.
    serve.wait_for_figure("clickstream_process_lag_events", |lag| lag == 0.0).unwrap();
    println!("{sold} events, each counted once; waited at most {PATIENCE:?}");
    [process, sink, ingest, serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

#[test]
fn a_sink_whose_database_never_answers_says_so_and_ends_after_half_a_minute() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let (manifest, secrets) = (directory.path().join("pipeline.yaml"), directory.path().join("secrets"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::create_dir_all(secrets.join("postgres")).unwrap();
    let url = format!("postgres://postgres@{}/postgres", silent.local_addr().unwrap());
    fs::write(secrets.join("postgres/url"), url).unwrap();
    fs::write(&manifest, over_http(&broker.address, "127.0.0.1:80").unwrap()).unwrap();
    set_up(&manifest).unwrap();
    let mut sink = start("sink", &manifest, &secrets, &["--name", "postgres"]);
    // It connects: connections are taken, and nobody ever answers.
    silent.set_nonblocking(true).unwrap();
    let _taken = sink.running.wait_for(PATIENCE, || silent.accept().ok()).unwrap();
    let asked = Instant::now();
    sink.running.signal(SIGTERM).unwrap();
    let ended = sink.running.wait(END_MAX).unwrap();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    assert!(asked.elapsed() >= Duration::from_secs(30), "it ended after {:?}", asked.elapsed());
    assert!(ended.stderr.contains("ending after 30 s without the last batch"), "{}", ended.stderr);
}
