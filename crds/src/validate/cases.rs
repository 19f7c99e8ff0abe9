//! Test cases: what they name is there.

use super::exactly_one;
use crate::{
    lower::{Lowered, unknown},
    problem::{Report, field},
    spec::{PipelineSpec, TestCase, TestThen},
};

pub(super) fn check(spec: &PipelineSpec, lowered: &Lowered, report: &mut Report) {
    for (at, case) in spec.tests.iter().enumerate() {
        let path = crate::problem::named("spec.tests", &case.name);
        if spec.tests[..at].iter().any(|other| other.name == case.name) {
            report.add(&path, "another case has this name");
        }
        given(spec, case, &path, report);
        for (at, then) in case.then.iter().enumerate() {
            self::then(spec, lowered, then, &format!("{path}.then[{at}]"), report);
        }
    }
}

fn given(spec: &PipelineSpec, case: &TestCase, path: &str, report: &mut Report) {
    for (at, given) in case.given.iter().enumerate() {
        let path = format!("{path}.given[{at}]");
        let names = || spec.topics.iter().map(|topic| topic.name.as_str());
        match &given.topic {
            Some(topic) if !names().any(|name| name == topic) => {
                unknown(report, &field(&path, "topic"), "topic", topic, "spec.topics", names());
            }
            None if spec.topics.len() != 1 => {
                let problem =
                    report.problem(&field(&path, "topic"), "is required, because the pipeline has several topics");
                report.push(problem.one_of("", names()));
            }
            _ => {}
        }
        for (at, event) in given.events.iter().enumerate().filter(|(_, event)| !event.0.is_object()) {
            let problem = report.problem(&format!("{path}.events[{at}]"), "an event is a map");
            report.push(problem.found(event.0.to_string()).accepts("a map, or the record as text under raw"));
        }
    }
}

fn then(spec: &PipelineSpec, lowered: &Lowered, then: &TestThen, path: &str, report: &mut Report) {
    let kinds = [("table", then.table.is_some()), ("stream", then.stream.is_some()), ("alert", then.alert.is_some())];
    exactly_one(report, path, "an expectation", &kinds);
    if let Some(name) = &then.stream
        && !spec.streams.iter().any(|stream| stream.name == *name)
    {
        unknown(
            report,
            &field(path, "stream"),
            "stream",
            name,
            "spec.streams",
            spec.streams.iter().map(|stream| stream.name.as_str()),
        );
    }
    if let Some(name) = &then.alert
        && !spec.alerts.iter().any(|alert| alert.name == *name)
    {
        unknown(
            report,
            &field(path, "alert"),
            "alert",
            name,
            "spec.alerts",
            spec.alerts.iter().map(|alert| alert.name.as_str()),
        );
    }
    if let Some(name) = &then.table {
        match lowered.tables.iter().find(|(table, _)| table == name) {
            Some((_, Some(scope))) => {
                let columns: Vec<&str> = scope.names().collect();
                for (at, column) in
                    then.rows.iter().enumerate().flat_map(|(at, row)| row.keys().map(move |key| (at, key)))
                {
                    if !columns.contains(&column.as_str()) {
                        let path = format!("{path}.rows[{at}].{column}");
                        let problem = report.problem(&path, format!("unknown column {column} in table {name}"));
                        report.push(problem.one_of(column, columns.iter().copied()));
                    }
                }
            }
            Some((_, None)) => {}
            None => {
                let names = spec.tables.iter().map(|table| table.name.as_str());
                unknown(report, &field(path, "table"), "table", name, "spec.tables", names);
            }
        }
    }
    ledger(then, path, report);
}

fn ledger(then: &TestThen, path: &str, report: &mut Report) {
    let words: &[&str] = match then.table {
        Some(_) => &["accepted", "counted", "late", "filtered"],
        None => &["read", "accepted", "duplicate", "invalid", "expired"],
    };
    for word in then.ledger.keys().filter(|word| !words.contains(&word.as_str())) {
        let problem = report.problem(&format!("{path}.ledger.{word}"), format!("unknown count {word}"));
        report.push(problem.one_of(word, words.iter().copied()));
    }
}
