//! The rules of one pipeline, as promtool evaluates them: they tell when a promise is broken, and only then.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};
use tests::chart::tool;

/// What happens; lag and processed events over two hours, a sample each minute; whether the alert of availability fires at their
/// end, where 99 of 100 minutes were promised.
const KEPT: &[(&str, &str, &str, i32)] = &[
    ("results are fresh", "100x120", "0+6000x120", 0),
    ("results were late for one minute of a hundred and twenty", "100x100 5000 100x20", "0+6000x120", 0),
    ("results were late for half an hour", "100x60 5000x30 100x30", "0+6000x120", 1),
    ("nobody has told for long enough", "_x110 5000x9", "0+6000x120", 0),
];

/// Accepted and invalid records in so many minutes, as two pods of `serve` tell; whether the alert of quality fires at their end,
/// where 95 of 100 were promised over ten minutes.
const VALID: &[(&str, [&str; 2], [&str; 2], i32)] = &[
    ("all are valid", ["0+100x60", "0+100x60"], ["0x60", "0x60"], 0),
    ("one of twenty-one is not", ["0+100x60", "0+100x60"], ["0+5x60", "0+5x60"], 0),
    ("one of eleven is not", ["0+100x60", "0+100x60"], ["0+10x60", "0+10x60"], 1),
    ("one of eleven was not, and that is over", ["0+100x120", "0+100x120"], ["0+10x30 300x90", "0+10x30 300x90"], 0),
    ("nothing comes", ["500x60", "500x60"], ["500x60", "500x60"], 0),
    (
        "it was rebuilt under another rule",
        ["0+100x50 4000+100x9", "0+100x50 4000+100x9"],
        ["0x50 1000x9", "0x50 1000x9"],
        0,
    ),
    ("a few were judged anew", ["0+100x50 4500+100x9", "0+100x50 4500+100x9"], ["0x50 500x9", "0x50 500x9"], 0),
    (
        "a few were judged anew, and by other pods",
        ["0+100x50 stale", "_x51 4500+100x8"],
        ["0x50 stale", "_x51 500x8"],
        0,
    ),
    ("a pod has begun anew", ["0+100x60", "0+100x50 0 600 3000 5400+100x7"], ["0x60", "0x60"], 0),
];

/// Checks the rules of a `PrometheusRule`, and what they say in each scene.
pub fn are_told_when_they_are_broken(rule: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path
    };
    let file = write("rules.yaml", &rule["spec"]);
    promtool(&["check", "rules", file.to_str().unwrap()]);
    let metadata = &rule["metadata"];
    let of = format!("namespace={}, clickstream_dev_pipeline={}", metadata["namespace"], metadata["name"]);
    let fires = r#"count(ALERTS{alertname="ClickstreamAvailabilityObjective", alertstate="firing"}) or vector(0)"#;
    let scene = |(name, lag, processed, count): &(&str, &str, &str, i32)| {
        let asked = json!({ "expr": fires, "eval_time": "2h", "exp_samples": [{ "labels": "{}", "value": count }] });
        let series = [("lag_events", lag), ("records_total", processed)].map(
            |(figure, values)| json!({ "series": format!("clickstream_process_{figure}{{{of}}}"), "values": values }),
        );
        json!({ "name": name, "interval": "1m", "input_series": series, "promql_expr_test": [asked] })
    };
    let fires = r#"count(ALERTS{alertname="ClickstreamQuality", alertstate="firing"}) or vector(0)"#;
    let valid = |(name, accepted, invalid, count): &(&str, [&str; 2], [&str; 2], i32)| {
        let asked = json!({ "expr": fires, "eval_time": "1h", "exp_samples": [{ "labels": "{}", "value": count }] });
        let series = [("accepted", accepted), ("invalid", invalid)].into_iter().flat_map(|(outcome, of_pods)| {
            let labels = format!("stream=\"clicks\", outcome=\"{outcome}\", {of}");
            let pod = move |(pod, values): (usize, &&str)| json!({ "series": format!("clickstream_stream_events{{{labels}, pod=\"{pod}\"}}"), "values": values });
            of_pods.iter().enumerate().map(pod).collect::<Vec<_>>()
        });
        let series: Vec<Value> = series.collect();
        json!({ "name": name, "interval": "1m", "input_series": series, "promql_expr_test": [asked] })
    };
    let scenes: Vec<Value> = KEPT.iter().map(scene).chain(VALID.iter().map(valid)).collect();
    let asked = json!({ "rule_files": [file], "evaluation_interval": "1m", "tests": scenes });
    promtool(&["test", "rules", write("asked.yaml", &asked).to_str().unwrap()]);
}

fn promtool(arguments: &[&str]) {
    let output = Command::new(tool("promtool").unwrap()).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}
