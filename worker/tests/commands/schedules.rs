//! `run --now`: a schedule once; and `run --log json`.

use serde_json::Value as Json;

use super::{
    dead_letters::{MANIFEST, SALES},
    program::{Shop, ends_with},
};

const SCHEDULES: &str = "
  sinks:
  - {name: bronze, topics: [sales-raw], parquet: {path: bronze/}}
  schedules:
  - {name: nightly, cron: \"15 2 * * *\", replay: {from: bronze, since: 24h}}
";

fn shop() -> Shop {
    Shop::new(&format!("{MANIFEST}{SCHEDULES}"), &[("sales.jsonl", SALES)])
}

#[test]
fn a_schedule_computes_tables_again_and_compares() {
    let shop = shop();
    let (manifest, data) = (shop.manifest(), shop.data());
    let now = |name: &'static str| ["run", &manifest, "--data-dir", &data, "--now", name].map(str::to_owned);
    let run = |code: i32, name| {
        let arguments = now(name);
        ends_with(code, &arguments.each_ref().map(String::as_str))
    };
    assert!(run(2, "nightly").1.contains("name its directory with --data-dir"), "nothing has run yet");
    shop.run_until_done(&[]);
    let told = run(0, "nightly").0;
    assert_eq!(told, "by_minute: 1 rows agree\ntotals: 1 rows agree\nschedule nightly: the tables agree\n");
    let (_, told) = run(2, "hourly");
    assert!(told.contains("there is no such schedule; there are nightly"), "{told}");

    // Repaired records are part of history: they are found again.
    let repair = ["dead-letters", "replay", "--data-dir", &data, "--all", "--set", "price=abs(price)"];
    ends_with(0, &repair);
    shop.run_until_done(&[]);
    assert!(run(1, "nightly").0.contains("by_minute: 2 differences"), "the live window was freed, history has room");

    // Somebody writes into the tables behind our back.
    let shop = self::shop();
    shop.run_until_done(&[]);
    let tables = shop.path("data").join("tables.db");
    let rows = shop.query("select revenue from by_minute");
    assert_eq!(rows.len(), 1);
    tamper(&tables);
    let (told, _) = ends_with(1, &["run", &shop.manifest(), "--data-dir", &shop.data(), "--now", "nightly"]);
    assert!(told.contains("totals: 2 differences (- the run, + computed again)"), "{told}");
    assert!(told.contains("  + city=null sales=1 revenue=10"), "{told}");
    assert!(told.ends_with("schedule nightly: the tables differ\n"), "{told}");
}

/// Adds one to a column of whole numbers of the running totals.
fn tamper(file: &std::path::Path) {
    let database = rusqlite::Connection::open(file).unwrap();
    let name: String = database
        .query_row("select name from sqlite_master where type = 'table' and name like '%totals%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(database.execute(&format!("update \"{name}\" set sales = sales + 1"), []).unwrap(), 1);
}

#[test]
fn everything_is_json_where_json_is_asked_for() {
    let shop = shop();
    let told = shop.run_until_done(&["--log", "json"]);
    let lines: Vec<Json> =
        told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let says = |part: &str| lines.iter().any(|line| line["fields"]["message"].as_str().unwrap().contains(part));
    assert!(says("dashboard: http://") && says("rows in totals: 1") && says("schedule nightly"), "{told}");
    let (_, told) = ends_with(2, &["run", "nowhere.yaml", "--log", "json"]);
    assert_eq!(serde_json::from_str::<Json>(&told).unwrap()["level"], "ERROR");
}
