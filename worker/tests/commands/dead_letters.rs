//! Dead letters: listed, shown, repaired, counted once, whether a process has the directory or not.

use serde_json::{Value as Json, json};

use super::program::{Running, Shop, ends_with};

pub const MANIFEST: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {name: shop}
spec:
  topics: [{name: sales-raw, partitions: 2}]
  ingest:
  - {name: file, topic: sales-raw, dataset: {path: sales.jsonl}}
  streams:
  - name: sales
    topics: [sales-raw]
    key: id
    eventTime: {field: at, outOfOrderness: 1m}
    id: {field: id, deduplicateWithin: 15m}
    fields:
    - {name: id, type: string, required: true}
    - {name: at, type: timestamp, required: true}
    - {name: price, type: decimal, required: true}
    - {name: city, type: string, path: shop.city}
    rules: [{name: price-not-negative, check: price >= 0}]
  tables:
  - {name: by_minute, from: sales, window: {tumbling: 1m}, select: {sales: count(), revenue: sum(price)}}
  - {name: totals, from: sales, keepFor: 30d, groupBy: [city], select: {sales: count(), revenue: sum(price)}}
";

pub const SALES: &str = r#"{"id":"a","at":"2025-03-01T09:00:01Z","price":10}
{"id":"b","at":"2025-03-01T09:00:02Z","price":"1,50","shop":{"city":"Ulm"}}
{"id":"c","at":"2025-03-01T09:00:03Z","price":-4}
{"id":"d","ts":"2025-03-01T09:00:04Z","price":7.25}
not json at all
"#;

/// `1,50` becomes `1.50`.
const REPAIR: &str = "price=cast(concat(split_part(raw.price, ',', 1), '.', split_part(raw.price, ',', 2)) as decimal)";

pub fn shop() -> Shop {
    Shop::new(MANIFEST, &[("sales.jsonl", SALES)])
}

fn letters(shop: &Shop, arguments: &[&str]) -> Vec<Json> {
    let list = ["dead-letters", "list", "--data-dir", &shop.data(), "--format", "jsonl"];
    let (out, _) = ends_with(0, &[&list[..], arguments].concat());
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn replay(shop: &Shop, arguments: &[&str]) -> String {
    let list = ["dead-letters", "replay", "--data-dir", &shop.data()];
    ends_with(0, &[&list[..], arguments].concat()).0
}

/// The number of the letter with this reason.
fn id_of(letters: &[Json], reason: &str) -> String {
    letters.iter().find(|letter| letter["reason"] == reason).unwrap()["id"].as_str().unwrap().to_owned()
}

fn totals(shop: &Shop) -> Json {
    json!(shop.query("select city, sales, revenue from totals order by city"))
}

#[test]
fn a_directory_without_a_process_takes_repairs_for_the_next_run() {
    let shop = shop();
    shop.run_until_done(&[]);
    let found = letters(&shop, &[]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(letters(&shop, &["--reason", "wrong-type"]).len(), 1);
    assert_eq!(letters(&shop, &["--limit", "1"]).len(), 1);
    let (table, _) = ends_with(0, &["dead-letters", "list", "--data-dir", &shop.data()]);
    assert!(table.contains("price-not-negative: 1") && table.contains("open"), "{table}");
    let (csv, _) = ends_with(0, &["dead-letters", "list", "--data-dir", &shop.data(), "--format", "csv"]);
    assert_eq!(csv.lines().count(), 5, "{csv}");

    let broken = id_of(&found, "not-json");
    let (shown, _) = ends_with(0, &["dead-letters", "show", &broken, "--data-dir", &shop.data()]);
    assert!(shown.contains("not json at all") && shown.contains("sales-raw/"), "{shown}");
    let (raw, _) = ends_with(0, &["dead-letters", "show", &broken, "--data-dir", &shop.data(), "--raw"]);
    assert_eq!(raw, "not json at all");

    let wrong = id_of(&found, "wrong-type");
    let told = replay(&shop, &[&wrong, "--set", REPAIR, "--dry-run"]);
    assert!(told.contains("would be repaired") && told.contains("\"price\":1.5"), "{told}");
    let told = replay(&shop, &[&wrong, "--set", REPAIR]);
    assert!(told.contains("1 repaired, 0 refused"), "{told}");
    assert!(told.contains("too late for by_minute: 1"), "the sources had ended: {told}");
    let told = replay(&shop, &[&wrong, "--set", REPAIR]);
    assert!(told.contains("0 repaired, 0 refused, 1 replayed before"), "{told}");
    let told =
        replay(&shop, &["--all", "--set", "price=abs(price)", "--set", "at=coalesce(at, cast(raw.ts as timestamp))"]);
    assert!(told.contains("2 repaired, 1 refused, 1 replayed before"), "{told}");
    assert!(told.contains("no JSON object"), "{told}");
    let whole = r#"{"id":"e","at":"2025-03-01T09:00:05Z","price":1}"#;
    assert!(replay(&shop, &[&broken, "--json", whole]).contains("1 repaired"));

    assert_eq!(totals(&shop), json!([{"city": null, "sales": 1, "revenue": 10}]), "nothing runs");
    shop.run_until_done(&[]);
    let counted = json!([{"city": null, "sales": 4, "revenue": 22.25}, {"city": "Ulm", "sales": 1, "revenue": 1.5}]);
    assert_eq!(totals(&shop), counted);
    assert!(letters(&shop, &[]).iter().all(|letter| letter["replayed"] == true));
    shop.run_until_done(&[]);
    assert_eq!(totals(&shop), counted, "a further run changes nothing");
}

#[test]
fn a_running_process_takes_repairs_into_open_windows() {
    let shop = shop();
    let mut running = shop.start(&[]);
    let sales = |running: &Running| running.get("/api/v1/tables/by_minute")["rows"][0]["sales"].clone();
    let reasons = |running: &Running| running.get("/api/v1/dead-letters")["reasons"].as_array().unwrap().len();
    let look = |running: &Running| (sales(running) == 1 && reasons(running) == 4).then_some(());
    let url = running.url.clone();
    running.wait_for("letters", look);
    let list = ["dead-letters", "list", "--url", &url, "--format", "jsonl", "--reason", "wrong-type"];
    assert_eq!(ends_with(0, &list).0.lines().count(), 1);
    let found = letters(&shop, &[]);
    assert_eq!(found.len(), 4, "the directory leads to its process");
    let told = replay(&shop, &["--reason", "wrong-type", "--set", REPAIR]);
    assert!(told.contains("1 repaired") && !told.contains("too late"), "{told}");
    running.wait_for("a correction", |running| (sales(running) == 2).then_some(()));
    assert_eq!(running.get("/api/v1/tables/by_minute")["rows"][0]["revenue"], 11.5);
    assert_eq!(running.get("/api/v1/ledger")["unaccounted"], 0);
    let again = replay(&shop, &["--reason", "wrong-type", "--set", REPAIR]);
    assert!(again.contains("0 repaired, 0 refused, 1 replayed before"), "{again}");
    running.stop();
}

#[test]
fn mistakes_point_at_what_is_wrong() {
    let shop = shop();
    shop.run_until_done(&[]);
    let check = |arguments: &[&str], text: &str| {
        let list = ["dead-letters", "replay", "--data-dir", &shop.data()];
        let (_, told) = ends_with(2, &[&list[..], arguments].concat());
        assert!(told.contains(text), "{told}");
    };
    check(&["--all", "--set", "price=coalesce(pric, 0)"], "  price = coalesce(pric, 0)\n                   ^\n");
    check(&["--all", "--set", "pric=0"], "stream sales has no such field; it has id, at, price, city");
    check(&["--all", "--set", "price"], "expected field=expression");
    check(&["--all"], "say how to repair them");
    check(&["--set", "price=0"], "say which letters");
    check(&["999", "--set", "price=0"], "there is no dead letter 999");
    check(&["--all", "--json", "{}"], "name it");
    check(&["0", "--json", "[1]"], "no JSON object");
    let (_, told) = ends_with(2, &["dead-letters", "show", "x", "--data-dir", &shop.data()]);
    assert!(told.contains("there is no dead letter x"), "{told}");
    let (_, told) = ends_with(2, &["dead-letters", "list", "--data-dir", "/nonexistent"]);
    assert!(told.contains("no data directory"), "{told}");
    let (_, told) = ends_with(1, &["dead-letters", "list", "--url", "http://127.0.0.1:1"]);
    assert!(told.contains("no pipeline answers"), "{told}");
}
