//! `clickstream plan`: what will be computed, why anything is shuffled, and what bounds every table.

mod expressions;
mod flow;
mod tables;

use std::fmt::Write;

use crate::{Checked, spec::Duration};

/// Describes the plan of a manifest, for people.
#[must_use]
pub fn describe(checked: &Checked) -> String {
    let mut page = Page::default();
    page.line(0, &format!("pipeline {}", checked.plan.pipeline));
    flow::topics(checked, &mut page);
    flow::ingest(checked, &mut page);
    flow::streams(checked, &mut page);
    tables::tables(checked, &mut page);
    flow::alerts(checked, &mut page);
    flow::sinks(checked, &mut page);
    flow::schedules(checked, &mut page);
    flow::ledgers(checked, &mut page);
    page.text
}

/// Lines with indentation.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.text, "{:indent$}{text}", "", indent = depth * 2);
    }

    fn heading(&mut self, text: &str) {
        self.text.push('\n');
        self.line(0, text);
    }

    /// A word and what it says, in two columns.
    fn entry(&mut self, word: &str, text: &str) {
        self.line(2, &format!("{word:<12}{text}"));
    }
}

fn millis(millis: i64) -> Duration {
    Duration { millis }
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
