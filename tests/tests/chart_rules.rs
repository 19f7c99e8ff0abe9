//! The alert rules fire when they should and keep quiet when they should, as promtool tells.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tests::{
    binary::root,
    chart::{render, tool},
};

/// What happens; series over half an hour, a sample each minute; the alerts that fire at its end.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

/// `WEB` stands for the namespace and pod that Prometheus adds to everything that it reads.
const ROWS: &[Row] = &[
    ("one leads, one stands by", &[("clickstream_operator_leader{WEB}", "1x30"), (STANDBY, "0x30")], &[]),
    ("nobody leads", &[(STANDBY, "0x30")], &["ClickstreamOperatorDown"]),
    ("there is no operator", &[], &["ClickstreamOperatorDown"]),
    (
        "a reconcile fails each minute",
        &[LEADS, (r#"clickstream_operator_reconciles_total{WEB, result="error"}"#, "0+1x30")],
        &["ClickstreamReconcileErrors"],
    ),
    (
        "the last run of a schedule failed",
        &[LEADS, ("clickstream_operator_schedules_failed{WEB}", "0x20 1x10")],
        &["ClickstreamScheduleFailed"],
    ),
    ("schedules succeed", &[LEADS, ("clickstream_operator_schedules_failed{WEB}", "1x20 0x10")], &[]),
    ("reconciles go well", &[LEADS, (r#"clickstream_operator_reconciles_total{WEB, result="ok"}"#, "0+60x30")], &[]),
    ("some events are on their way", &[LEADS, (ACCEPTED, "0+60000x30"), (UNACCOUNTED, "1000x30")], &[]),
    (
        "more are nowhere than ever could be on their way",
        &[LEADS, (ACCEPTED, "0+60000x30"), (UNACCOUNTED, "40000x30")],
        &["ClickstreamUnaccountedEvents"],
    ),
    (
        "one is nowhere while nothing moves",
        &[LEADS, (ACCEPTED, "500x30"), (UNACCOUNTED, "1x30")],
        &["ClickstreamUnaccountedEvents"],
    ),
    ("all are accounted for", &[LEADS, (ACCEPTED, "500x30"), (UNACCOUNTED, "0x30")], &[]),
    (
        "one is counted twice",
        &[LEADS, (ACCEPTED, "0+60x30"), (UNACCOUNTED, "-1x30")],
        &["ClickstreamUnaccountedEvents"],
    ),
    (
        "retention was faster",
        &[LEADS, (r#"clickstream_stream_events{WEB, stream="events", outcome="expired"}"#, "0x20 300x10")],
        &["ClickstreamRecordsExpired"],
    ),
    (
        "retention was faster once, long ago",
        &[LEADS, (r#"clickstream_stream_events{WEB, stream="events", outcome="expired"}"#, "300x30")],
        &[],
    ),
    (
        "retention was faster than a copy, before anybody looked",
        &[LEADS, (COPY_EXPIRED, "_x20 7x10")],
        &["ClickstreamCopyExpired"],
    ),
    ("and while it was copied", &[LEADS, (COPY_EXPIRED, "0x20 7x10")], &["ClickstreamCopyExpired"]),
    ("retention was faster than a copy once, long ago", &[LEADS, (COPY_EXPIRED, "7x30")], &[]),
    ("a backlog", &[LEADS, ("clickstream_process_lag_events{WEB}", "150000x30")], &["ClickstreamLag"]),
    ("a backlog that shrinks in time", &[LEADS, ("clickstream_process_lag_events{WEB}", "150000-10000x15")], &[]),
    (
        "partitions that lag together",
        &[
            LEADS,
            (r#"clickstream_lag_records{WEB, topic="clicks", partition="0"}"#, "60000x30"),
            (r#"clickstream_lag_records{WEB, topic="clicks", partition="1"}"#, "60000x30"),
        ],
        &["ClickstreamLag"],
    ),
    (
        "a store is away, and its sink falls behind",
        &[
            LEADS,
            ("clickstream_sink_lag_records{WEB}", "0+20000x30"),
            ("clickstream_sink_failures_total{WEB}", "0+6x30"),
        ],
        &["ClickstreamSinkLag", "ClickstreamSinkFails"],
    ),
    (
        "a store was away and its sink has caught up",
        &[
            LEADS,
            ("clickstream_sink_lag_records{WEB}", "200000-20000x10 0x20"),
            ("clickstream_sink_failures_total{WEB}", "0+6x10 60x20"),
        ],
        &[],
    ),
    (
        "somebody sets a topic otherwise",
        &[LEADS, ("clickstream_topic_differences{WEB}", "0x5 1x25")],
        &["ClickstreamTopicsDiffer"],
    ),
    ("and it is put right", &[LEADS, ("clickstream_topic_differences{WEB}", "1x10 0x20")], &[]),
    (
        "a receiver refuses",
        &[LEADS, (r#"clickstream_notifications_total{WEB, outcome="failed"}"#, "0x25 1x5")],
        &["ClickstreamAlertNotTold"],
    ),
    (
        "a receiver refused before anybody looked",
        &[LEADS, (r#"clickstream_notifications_total{WEB, outcome="failed"}"#, "_x20 4x10")],
        &["ClickstreamAlertNotTold"],
    ),
    (
        "receivers are told, and one refused long ago",
        &[
            LEADS,
            (r#"clickstream_notifications_total{WEB, outcome="failed"}"#, "3x30"),
            (r#"clickstream_notifications_total{WEB, outcome="delivered"}"#, "0+1x30"),
        ],
        &[],
    ),
    (
        "commits fail",
        &[LEADS, ("clickstream_process_commits_failed_total{WEB}", "0+3x30")],
        &["ClickstreamCommitsFail"],
    ),
    ("a commit failed once", &[LEADS, ("clickstream_process_commits_failed_total{WEB}", "0x10 1x20")], &[]),
    (
        "checkpoints stopped",
        &[LEADS, (r#"clickstream_checkpoint_age_seconds{WEB, stage="map"}"#, "0+60x30")],
        &["ClickstreamCheckpointAge"],
    ),
    ("checkpoints are fresh", &[LEADS, (r#"clickstream_checkpoint_age_seconds{WEB, stage="map"}"#, "10x30")], &[]),
];

const LEADS: (&str, &str) = ("clickstream_operator_leader{WEB}", "1x30");
const STANDBY: &str = r#"clickstream_operator_leader{namespace="shop", pod="other"}"#;
const ACCEPTED: &str = r#"clickstream_stream_events{WEB, stream="events", outcome="accepted"}"#;
const COPY_EXPIRED: &str = r#"clickstream_ingest_expired_events_total{WEB, ingester="theirs"}"#;
const UNACCOUNTED: &str = "clickstream_ledger_unaccounted_events{WEB}";

fn rules() -> Value {
    let rendered = render(&["monitoring.rules=true"], &[]).unwrap();
    let rule = rendered.into_iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    json!({ "groups": rule["spec"]["groups"] })
}

fn names(rules: &Value) -> Vec<String> {
    let groups = rules["groups"].as_array().unwrap().iter();
    let alerts =
        groups.flat_map(|group| group["rules"].as_array().unwrap()).map(|rule| rule["alert"].as_str().unwrap());
    alerts.map(str::to_owned).collect()
}

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new(tool("promtool").unwrap()).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path
    };
    let rules = rules();
    // JSON is YAML.
    let file = write("rules.yaml", &rules);
    promtool(&["check", "rules", file.to_str().unwrap()]);
    let all = names(&rules);
    let tests: Vec<Value> = ROWS.iter().map(|row| scenario(row, &all)).collect();
    let fires = |alert: &String| ROWS.iter().any(|(_, _, alerts)| alerts.contains(&alert.as_str()));
    assert!(all.iter().all(fires), "a rule that no row makes fire: {all:?}");
    let asked = json!({ "rule_files": [file], "evaluation_interval": "1m", "tests": tests });
    promtool(&["test", "rules", write("asked.yaml", &asked).to_str().unwrap()]);
}

/// promtool compares alerts with all their labels and words, so that what fires is asked as an expression instead.
fn scenario((name, series, fired): &Row, all: &[String]) -> Value {
    let web = r#"namespace="shop", pod="web-0""#;
    let series = series.iter().map(|(name, values)| json!({ "series": name.replace("WEB", web), "values": values }));
    let asked = all.iter().map(|alert| {
        let count = i32::from(fired.contains(&alert.as_str()));
        json!({
            "expr": format!(r#"count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)"#),
            "eval_time": "30m",
            "exp_samples": [{ "labels": "{}", "value": count }],
        })
    });
    json!({
        "name": name,
        "interval": "1m",
        "input_series": series.collect::<Vec<_>>(),
        "promql_expr_test": asked.collect::<Vec<_>>(),
    })
}

#[test]
fn every_figure_that_a_rule_reads_is_one_that_a_program_tells() {
    let told = sources(&root().join("worker/src")) + &sources(&root().join("operator/src"));
    let asked_of_the_operator = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let text = rules().to_string();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let figures = text.split(|c| !is_name(c)).filter(|word| word.starts_with("clickstream_"));
    for figure in figures {
        let known = told.contains(&format!("\"{figure}\"")) || asked_of_the_operator.contains(&format!("`{figure}`"));
        assert!(known, "no program tells {figure}");
    }
}

fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}
