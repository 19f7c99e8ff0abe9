//! The whole product, as people run it: `clickstream run` over a file of W2, start to first number, queries.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{generator, limit::Limit, meter};
use crate::binary::{Running, clickstream, free_address};

/// The manifest of W2: its stream and tables.
pub const W2: &str = include_str!("../../benches/w2.yaml");

/// The same events in sessions.
pub const SESSIONS: &str = include_str!("../../benches/sessions.yaml");

/// Longest that any run may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(900);

/// Queries of which the 95th percentile is taken.
const QUERIES: usize = 100;

/// The manifest of W2, for a pipeline of its own over a topic of a broker, with `more` fields of its spec.
#[must_use]
pub fn w2_over(name: &str, bootstrap: &str, topic: (&str, u32), more: &str) -> String {
    over((W2, "w2"), name, bootstrap, topic, more)
}

/// A manifest over W2's events under another name.
#[must_use]
pub fn over(
    (text, was): (&str, &str),
    name: &str,
    bootstrap: &str,
    (topic, partitions): (&str, u32),
    more: &str,
) -> String {
    text.replace(&format!("name: {was}}}"), &format!("name: {name}}}"))
        .replace("kafka-bootstrap:9092", bootstrap)
        .replace("{name: events, partitions: 1}", &format!("{{name: {topic}, partitions: {partitions}}}"))
        .replace("topics: [events]", &format!("topics: [{topic}]"))
        .replacen("  streams:", &format!("{more}  streams:"), 1)
}

/// Writes W2's events, one a line.
///
/// # Errors
/// If the file cannot be written.
pub fn write_events(file: &Path, events: u64) -> Result<()> {
    let out = File::create(file).with_context(|| format!("failed to create {}", file.display()))?;
    let mut out = BufWriter::new(out);
    let records = &generator::events(events, 1)[0];
    for at in 0..records.len() {
        out.write_all(records.payload(at))?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// The manifest with a file to read and several partitions.
fn manifest(file: &Path) -> String {
    let ingest = format!(
        "  ingest:\n  - name: file\n    topic: events\n    dataset: {{path: \"{}\", format: jsonl, pace: asFastAsPossible}}\n  streams:",
        file.display()
    );
    W2.replace("partitions: 1", "partitions: 4").replacen("  streams:", &ingest, 1)
}

/// Events a second and peak memory of `clickstream run --until-done` over a file of W2.
///
/// # Errors
/// If the run fails or its tables are not those of the limit program.
pub fn run(events: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, yaml) = (folder.path().join("w2.jsonl"), folder.path().join("w2.yaml"));
    write_events(&file, events)?;
    std::fs::write(&yaml, manifest(&file))?;
    let data_dir = folder.path().join("data");
    let (clock, cpu) = (Instant::now(), meter::cpu_of_children());
    let mut command = clickstream()?;
    command.arg("run").arg(&yaml).arg("--data-dir").arg(&data_dir).args(["--until-done", "--listen", &free_address()?]);
    let running = Running::start(command)?;
    let (peak, output) = running.watch_memory(PATIENCE)?;
    let (seconds, cpu) = (clock.elapsed().as_secs_f64(), meter::cpu_of_children() - cpu);
    ensure!(output.status.success(), "clickstream run failed:\n{}", output.stderr);
    check_tables(&data_dir, events)?;
    let millions = events as f64 / 1e6;
    println!("{:<52} {:>14.0}  reach ≥ 500,000", "run: events per second", events as f64 / seconds);
    println!("{:<52} {:>14.3}", "run: CPU seconds per million", cpu.as_secs_f64() / millions);
    println!("{:<52} {:>14.1}  reach ≤ 600", "run: peak memory in MiB", peak as f64 / f64::from(1 << 20));
    Ok(())
}

/// The product's tables summed up must be the limit program's.
fn check_tables(data_dir: &Path, events: u64) -> Result<()> {
    let mut limit = Limit::default();
    limit.run(&generator::events(events, 1)[0]);
    let sql = "select count(*) as rows, sum(views) as views, sum(carts) as carts, sum(purchases) as purchases from product_minutes";
    let found = query(data_dir, sql)?;
    let sum = |column: usize| limit.product_rows.iter().map(|row| row.2[column]).sum::<i64>();
    let expected =
        [("rows", limit.product_rows.len() as i64), ("views", sum(0)), ("carts", sum(1)), ("purchases", sum(2))];
    for (name, value) in expected {
        ensure!(found[name].as_i64() == Some(value), "{name} is {}, the limit program has {value}", found[name]);
    }
    Ok(())
}

/// The first row of a query.
fn query(data_dir: &Path, sql: &str) -> Result<serde_json::Value> {
    let output = clickstream()?
        .arg("query")
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--format", "json", "--sql", sql])
        .output()?;
    ensure!(output.status.success(), "query failed: {}", String::from_utf8_lossy(&output.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(rows[0].clone())
}

/// Start to the first number on the page's API, and the 95th percentile of queries over 100,000 rows.
///
/// # Errors
/// If the program does not answer.
pub fn query_times() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, yaml) = (folder.path().join("w2.jsonl"), folder.path().join("w2.yaml"));
    write_events(&file, 6_200_000)?;
    std::fs::write(&yaml, manifest(&file))?;
    let address = free_address()?;
    let mut command = clickstream()?;
    command.arg("run").arg(&yaml).args(["--listen", &address]);
    let clock = Instant::now();
    let mut running = Running::start(command)?;
    let rows = |running: &mut Running, at_least: i64| {
        running.wait_for(PATIENCE, || {
            let sql = r#"{"sql":"select count(*) as rows from product_minutes"}"#;
            let found = post(&format!("http://{address}/api/v1/sql"), sql).ok()?;
            (found["rows"][0]["rows"].as_i64()? >= at_least).then_some(())
        })
    };
    rows(&mut running, 1)?;
    println!(
        "{:<52} {:>14.3}  reach < 2",
        "query: seconds from start to the first number",
        clock.elapsed().as_secs_f64()
    );
    rows(&mut running, 100_000)?;
    let mut millis = Vec::new();
    for number in 0..QUERIES {
        let sql = format!(
            r#"{{"sql":"select * from product_minutes where product_id = 'prod_{number:04}' order by window_start desc limit 100"}}"#
        );
        let clock = Instant::now();
        post(&format!("http://{address}/api/v1/sql"), &sql)?;
        millis.push(clock.elapsed().as_secs_f64() * 1_000.0);
    }
    millis.sort_by(f64::total_cmp);
    println!("{:<52} {:>14.3}  reach < 50", "query: p95 in milliseconds over 100,000 rows", millis[QUERIES * 95 / 100]);
    Ok(())
}

/// Posts a body and returns the answer.
///
/// # Errors
/// If there is none, or it is no JSON.
pub fn post(url: &str, body: &str) -> Result<serde_json::Value> {
    let mut answer = ureq::post(url).header("content-type", "application/json").send(body)?;
    Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
}
