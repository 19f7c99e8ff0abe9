//! `/metrics` as Prometheus reads it, and the sinks in the status.

use std::collections::BTreeMap;

use worker::metrics::{Figure, Reason};

use super::{dead_letters::shop, program::Running};

/// Series by name and labels as they are written. Every line must be what the text format allows.
fn scrape(running: &Running) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut family = String::new();
    for line in running.text("/metrics").lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match kind {
                "HELP" => {
                    assert!(family != name && !rest.is_empty(), "{line}");
                    family = name.to_owned();
                }
                "TYPE" => {
                    assert!(family == name && ["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert_eq!(rest == "counter", name.ends_with("_total"), "{line}");
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(name.starts_with(&family), "{name} is not of {family}");
        let known = series.insert(name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")));
        assert!(known.is_none(), "{name} comes twice");
    }
    series
}

#[test]
fn every_figure_is_told_and_counts_what_happened() {
    let shop = shop();
    let mut running = shop.start(&["-s", "process.checkpoints.every=1s", "-s", "streams.sales.eventTime.idleAfter=1s"]);
    let invalid = "clickstream_stream_events{outcome=\"invalid\",stream=\"sales\"}";
    let is_settled = |series: &BTreeMap<String, f64>| {
        series.get(invalid) == Some(&4.0)
            && series["clickstream_sink_lag_records{sink=\"tables\"}"] == 0.0
            && series["clickstream_checkpoint_bytes{stage=\"map\"}"] > 0.0
    };
    let series = running.wait_for("settled figures", |running| {
        let series = scrape(running);
        is_settled(&series).then_some(series)
    });
    for (name, ..) in Figure::ALL.map(Figure::about) {
        assert!(series.keys().any(|key| key.starts_with(name)), "{name} is missing: {series:#?}");
    }
    for reason in Reason::ALL.map(Reason::label) {
        let count = series[&format!("clickstream_dead_letters_total{{reason=\"{reason}\"}}")];
        let expected = if ["late", "out-of-range"].contains(&reason) { 0.0 } else { 1.0 };
        assert!((count - expected).abs() < f64::EPSILON, "{reason}: {count}");
    }
    let check = |name: &str, expected: f64| {
        let found = series.get(name).unwrap_or_else(|| panic!("{name} is missing: {series:#?}"));
        assert!((found - expected).abs() < f64::EPSILON, "{name}: {found}, expected {expected}");
    };
    check("clickstream_records_total{stage=\"map\"}", 5.0);
    check("clickstream_ingest_events{ingester=\"file\"}", 5.0);
    check("clickstream_stream_events{outcome=\"read\",stream=\"sales\"}", 5.0);
    check("clickstream_table_events{outcome=\"counted\",table=\"by_minute\"}", 1.0);
    check("clickstream_table_events{outcome=\"late\",table=\"by_minute\"}", 0.0);
    check("clickstream_ledger_unaccounted_events", 0.0);
    check("clickstream_lag_records{partition=\"0\",topic=\"sales-raw\"}", 0.0);
    check("clickstream_lag_seconds{partition=\"1\",topic=\"sales-raw\"}", 0.0);
    check(&format!("clickstream_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0);
    assert!(series["clickstream_commit_seconds_count{stage=\"map\"}"] >= 1.0);
    assert!(series["clickstream_checkpoint_seconds_count{stage=\"map\"}"] >= 1.0);

    let status = running.get("/api/v1/status");
    assert_eq!((&status["sinks"][0]["name"], &status["sinks"][0]["lag"]), (&"tables".into(), &0.into()), "{status}");
    running.stop();
}
