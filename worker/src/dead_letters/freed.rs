//! Which tables can no longer take an event, by the merged watermark: their windows are freed.
//!
//! MERGE alone decides, when the record reaches it; this tells people beforehand, by the watermark of the last commit.

use engine::{
    plan::{Input, Plan, TableKind, TablePlan, Window},
    time::{END_OF_TIME, Millis, window_start},
};
use serde::Deserialize;

use super::Watermarks;
use crate::store::{Bounds, Format, QueryError, Reader};

#[derive(Deserialize)]
struct Line {
    stream: String,
    watermark: Option<String>,
}

/// The merged watermark of each stream and join, as the tables know it: the least of all MERGE tasks.
///
/// # Errors
/// Where the tables cannot be read.
pub fn watermarks(reader: &Reader) -> Result<Watermarks, QueryError> {
    let sql = "select stream, watermark from _watermarks where task like 'merge:%'";
    let outcome = reader.sql(sql, Format::JsonLines, Bounds::none())?;
    let mut marks = Watermarks::new();
    for line in outcome.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Line { stream, watermark } = serde_json::from_slice(line).expect("the statement names these columns");
        // A row appears with the first watermark; null again means that the sources have ended.
        let at = watermark.and_then(|text| engine::decode::timestamp(text.as_bytes())).unwrap_or(END_OF_TIME);
        marks.entry(stream).and_modify(|known| *known = at.min(*known)).or_insert(at);
    }
    Ok(marks)
}

/// The tables behind `stream` that cannot take an event at `time` any more, in plan order.
pub(super) fn tables<'a>(plan: &'a Plan, stream: usize, time: Millis, marks: &Watermarks) -> Vec<&'a str> {
    let mark = |name: &str| marks.get(name).copied();
    let is_freed = |table: &TablePlan| match table.input {
        Input::Stream(at) if at == stream => {
            mark(&plan.streams[at].name).is_some_and(|mark| window_is_freed(table, time, mark))
        }
        Input::Join(join) if [plan.joins[join].left, plan.joins[join].right].contains(&stream) => {
            mark(&plan.streams[stream].name).is_some_and(|mark| time < mark)
        }
        Input::Stream(_) | Input::Join(_) => false,
    };
    plan.tables.iter().filter(|table| is_freed(table)).map(|table| table.name.as_str()).collect()
}

/// The rules of `docs/semantics.md`.
fn window_is_freed(table: &TablePlan, time: Millis, mark: Millis) -> bool {
    let freed_at = |end: Millis| mark >= end.saturating_add(table.lateness_ms);
    match (&table.kind, table.window) {
        (TableKind::Funnel(_), _) => mark > time.saturating_add(table.lateness_ms),
        (_, Window::None) => false,
        (_, Window::Tumbling { size_ms }) => freed_at(window_start(time, size_ms) + size_ms),
        (_, Window::Hopping { size_ms, every_ms }) => freed_at(window_start(time, every_ms) + size_ms),
        (_, Window::Session { gap_ms }) => mark > time.saturating_add(gap_ms + table.lateness_ms),
    }
}
