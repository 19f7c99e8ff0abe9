//! `test`: cases that hold, cases that do not, and cases that make no sense.

use std::{fs, path::Path};

use super::program::{Shop, ends_with};

const MANIFEST: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {name: shop}
spec:
  topics: [{name: sales-raw, partitions: 2}]
  streams:
  - name: sales
    topics: [sales-raw]
    key: id
    eventTime: {field: at, outOfOrderness: 1m}
    id: {field: id, deduplicateWithin: 15m}
    fields:
    - {name: id, type: string, required: true}
    - {name: at, type: timestamp, required: true}
    - {name: price, type: decimal}
    - {name: city, type: string}
  tables:
  - {name: by_minute, from: sales, window: {tumbling: 1m}, groupBy: [city], select: {sales: count(), revenue: sum(price)}}
";

/// What comes after the manifest.
fn with(tests: &str) -> Shop {
    Shop::new(&format!("{MANIFEST}{tests}"), &[])
}

const FAILING: &str = r#"
  tests:
  - name: two sales in Ulm
    given:
    - events:
      - {id: a, at: "2025-03-01T09:00:01Z", price: 10, city: Ulm}
      - {id: b, at: "2025-03-01T09:00:02Z", price: 0.5, city: Ulm}
      - {id: c, at: "2025-03-01T09:00:03Z", price: 7, city: Rom}
    then:
    - table: by_minute
      rows:
      - {window_start: "2025-03-01T09:00:00Z", city: Ulm, sales: 2, revenue: 11}
      - {city: Oslo, sales: 1}
    - stream: sales
      ledger: {duplicate: 1}
"#;

#[test]
fn the_examples_keep_their_word() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let names = ["category-sales", "medallion", "reference"].map(|name| examples.join(format!("{name}.yaml")));
    let mut arguments = vec!["test", "-v"];
    arguments.extend(names.iter().map(|name| name.to_str().unwrap()));
    let (told, _) = ends_with(0, &arguments);
    assert!(told.contains("0 failed"), "{told}");
    for disturbance in ["every event twice", "cut by crashes", "shuffled within the bound", "other partitions"] {
        assert!(told.contains(&format!("the same {disturbance}")) || told.contains(disturbance), "{told}");
    }
}

#[test]
fn a_case_that_fails_says_where() {
    let (told, _) = ends_with(1, &["test", &with(FAILING).manifest()]);
    let expected = "  FAIL two sales in Ulm
         table by_minute
           ~ city=Ulm sales=2 window_start=2025-03-01T09:00:00Z
               revenue: expected 11, found 10.5
           ~ sales=1
               city: expected \"Oslo\", found \"Rom\"
         stream sales
         duplicate: expected 1, found 0
0 passed, 1 failed
";
    assert!(told.ends_with(expected), "{told}");
}

#[test]
fn cases_may_lie_beside_the_manifest() {
    let shop = with("");
    let (told, _) = ends_with(0, &["test", &shop.manifest()]);
    assert!(told.contains("no cases"), "{told}");
    let case = r#"
- name: nothing is expected of nothing
  given: [{raw: ["x"]}]
  then: [{table: by_minute, rows: []}, {stream: sales, ledger: {invalid: 1}}]
"#;
    fs::write(shop.path("shop.tests.yaml"), case).unwrap();
    let (told, _) = ends_with(0, &["test", &shop.manifest()]);
    assert!(told.contains("1 passed, 0 failed"), "{told}");
    let beside = shop.path("shop.tests.yaml").display().to_string();
    assert!(ends_with(0, &["test", &beside, &shop.manifest()]).0.contains("1 passed, 0 failed"));
    assert!(ends_with(0, &["test", &beside, "--only", "everything"]).0.contains("0 passed, 0 failed"));
}

#[test]
fn cases_that_make_no_sense_are_mistakes() {
    let check = |tests: &str, part: &str| {
        let (_, told) = ends_with(2, &["test", &with(tests).manifest()]);
        assert!(told.contains(part), "{told}");
    };
    check("  tests: [{name: a, given: [{}], then: [{table: by_minut, rows: []}]}]", "by_minute");
    check("  tests: [{name: a, given: [{}], then: [{table: by_minute, rows: [{citi: Ulm}]}]}]", "did you mean city?");
    let shop = with("");
    fs::write(shop.path("shop.tests.yaml"), "- {name: a, given: [{topic: sale}], then: [{stream: sales}]}").unwrap();
    let (_, told) = ends_with(2, &["test", &shop.manifest()]);
    assert!(told.contains("shop.tests.yaml is no list of cases") && told.contains("sales-raw"), "{told}");
}

/// Disturbances that would be allowed to change a case are left out.
#[test]
fn what_is_late_is_not_shuffled() {
    let late = r#"
  tests:
  - name: late is late
    given:
    - events:
      - {id: a, at: "2025-03-01T09:00:01Z", price: 10, city: Ulm}
      - {id: b, at: "2025-03-01T10:00:00Z", price: 10, city: Ulm}
      - {id: c, at: "2025-03-01T09:00:02Z", price: 10, city: Ulm}
    then:
    - {table: by_minute, ledger: {late: 1, counted: 2}}
"#;
    let (told, _) = ends_with(0, &["test", "-v", &with(late).manifest()]);
    assert!(told.contains("the same cut by crashes"), "{told}");
    assert!(told.contains("not tried shuffled within the bound: an event is later than the bound"), "{told}");
}
