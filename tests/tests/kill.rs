//! `clickstream run --data-dir` killed again and again: the tables are those of a run that nobody disturbed.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use tests::{
    bench::product,
    binary::{self, Running, clickstream, free_address, root},
    random::Random,
};

/// Enough that ten kills fall into one run.
const EVENTS: u64 = 200_000;

/// How often the process is killed.
const KILLS: u64 = 10;

/// Longest that anything may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// The manifest and its events in a folder of their own.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::copy(root().join("tests/manifests/kill.yaml"), folder.path().join("kill.yaml"))?;
    product::write_events(&folder.path().join("events.jsonl"), EVENTS)?;
    Ok(folder)
}

fn run(folder: &Path, data_dir: &str, address: &str) -> Result<Command> {
    let mut command = clickstream()?;
    command.current_dir(folder).args(["run", "kill.yaml", "--until-done", "--data-dir", data_dir, "--listen", address]);
    Ok(command)
}

/// All rows of all tables, without the version: how often something was written may differ, what was written may not.
fn tables(folder: &Path, data_dir: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let query = |arguments: &[&str]| -> Result<String> {
        let mut command = clickstream()?;
        command
            .current_dir(folder)
            .args(["query", "--data-dir", data_dir, "--format", "jsonl", "--limit", "0"])
            .args(arguments);
        let ended = binary::run(command, PATIENCE)?;
        ensure!(ended.status.success(), "query {arguments:?} failed: {}", ended.stderr);
        Ok(ended.stdout)
    };
    let names = query(&[])?;
    let mut tables = BTreeMap::new();
    for name in names.lines() {
        let name: serde_json::Value = serde_json::from_str(name)?;
        let name = name["name"].as_str().context("a table has a name")?.to_owned();
        let mut rows = Vec::new();
        for row in query(&[&name])?.lines() {
            let mut row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(row)?;
            row.remove("version").context("a row has a version")?;
            rows.push(serde_json::to_string(&row)?);
        }
        rows.sort();
        tables.insert(name, rows);
    }
    Ok(tables)
}

/// Where every event in the Parquet files came from; each file must be whole.
fn origins(folder: &Path, files: &mut usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(origins(&path, files)?);
            continue;
        }
        let name = path.display().to_string();
        ensure!(name.ends_with(".parquet"), "{name} was left behind");
        *files += 1;
        let reader = SerializedFileReader::new(fs::File::open(&path)?).with_context(|| name.clone())?;
        for row in reader.get_row_iter(None)? {
            let row = row.with_context(|| name.clone())?.to_string();
            let (_, origin) = row.split_once("_topic:").context("an event does not say where it came from")?;
            found.push(origin.to_owned());
        }
    }
    Ok(found)
}

/// Events that MAP has counted so far, as the API tells.
fn events_read(address: &str) -> Option<u64> {
    let mut answer = ureq::get(format!("http://{address}/api/v1/ledger")).call().ok()?;
    let ledger: serde_json::Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    ledger["streams"][0]["read"].as_u64()
}

#[test]
fn ten_kills_change_nothing() -> Result<()> {
    let folder = folder()?;
    let folder = folder.path();
    let ended = binary::run(run(folder, "calm", &free_address()?)?, PATIENCE)?;
    ensure!(ended.status.success(), "the undisturbed run failed: {}", ended.stderr);
    let expected = tables(folder, "calm")?;
    ensure!(
        expected.len() == 5 && expected.values().all(|rows| !rows.is_empty()),
        "a table is empty: {}",
        ended.stderr
    );

    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos().into();
    let mut random = Random::new(seed);
    println!("seed {seed}");
    let mut recovered = Vec::new();
    for kill in 0..KILLS {
        let address = free_address()?;
        let mut command = run(folder, "killed", &address)?;
        // Slow enough that every kill finds something half done.
        command.args(["-s", "ingest.file.dataset.eventsPerSecond=40000"]);
        let mut running = Running::start(command)?;
        // Now in the midst of recovery, now after more events.
        let until = (kill + 1) * EVENTS / (KILLS + 2);
        if kill % 3 == 2 {
            std::thread::park_timeout(Duration::from_millis(random.below(150)));
        } else {
            let clock = Instant::now();
            running.wait_for(PATIENCE, || events_read(&address).filter(|read| *read >= until))?;
            recovered.push((until, clock.elapsed()));
        }
        running.kill()?;
    }
    println!("events read, and how long it took from the start: {recovered:?}");
    let ended = binary::run(run(folder, "killed", &free_address()?)?, PATIENCE)?;
    ensure!(ended.status.success(), "the run after the last kill failed: {}", ended.stderr);
    let found = tables(folder, "killed")?;
    for (name, rows) in &expected {
        let other = &found[name];
        let missing = rows.iter().find(|row| other.binary_search(row).is_err());
        let surplus = other.iter().find(|row| rows.binary_search(row).is_err());
        ensure!(
            rows == other,
            "seed {seed}: {name} has {} rows, not {}; missing {missing:?}; surplus {surplus:?}",
            other.len(),
            rows.len()
        );
    }
    let (mut calm_files, mut files) = (0, 0);
    let mut calm = origins(&folder.join("calm/lake"), &mut calm_files)?;
    let mut killed = origins(&folder.join("killed/lake"), &mut files)?;
    calm.sort();
    killed.sort();
    println!("{} events in {calm_files} files undisturbed, {} in {files} with kills", calm.len(), killed.len());
    ensure!(!calm.is_empty() && calm.windows(2).all(|pair| pair[0] != pair[1]), "seed {seed}: an event is twice");
    ensure!(killed == calm, "seed {seed}: {} events in files, not {}", killed.len(), calm.len());
    ensure!(ended.stderr.contains(&format!("read {EVENTS}")), "not every event was read: {}", ended.stderr);
    // A backlog is read as fast as the disk gives it, one partition far ahead of another: that makes nothing late.
    ensure!(
        ended.stderr.matches("  late 0  ").count() == expected.len(),
        "a backlog makes no event late: {}",
        ended.stderr
    );
    Ok(())
}
