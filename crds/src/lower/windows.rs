//! Windows, and the bound on state of tables without one.

use engine::plan;

use super::columns::positive;
use crate::{
    limits::{PANES_PER_WINDOW_MAX, WINDOWS_PER_EVENT_MAX},
    problem::{Report, field},
    spec::{Hopping, Table, Window},
};

/// Lowers the window of a table.
pub(super) fn window(table: &Table, path: &str, report: &mut Report) -> plan::Window {
    let path = field(path, "window");
    let Some(window) = &table.window else { return plan::Window::None };
    match window {
        Window { tumbling: Some(size), hopping: None, session: None, .. } => {
            positive(report, &field(&path, "tumbling"), *size);
            plan::Window::Tumbling { size_ms: size.millis.max(1) }
        }
        Window { tumbling: None, hopping: Some(window), session: None, .. } => hopping(window, &path, report),
        Window { tumbling: None, hopping: None, session: Some(session), .. } => {
            positive(report, &field(&field(&path, "session"), "gap"), session.gap);
            plan::Window::Session { gap_ms: session.gap.millis.max(1) }
        }
        _ => {
            if !report.lost(&path) {
                let problem = report.problem(&path, "a window is exactly one of tumbling, hopping, session");
                report.push(
                    problem.accepts("{tumbling: 1m}, {hopping: {size: 10m, every: 1m}} or {session: {gap: 30m}}"),
                );
            }
            plan::Window::None
        }
    }
}

fn hopping(window: &Hopping, path: &str, report: &mut Report) -> plan::Window {
    let path = field(path, "hopping");
    positive(report, &field(&path, "size"), window.size);
    positive(report, &field(&path, "every"), window.every);
    let (size_ms, every_ms) = (window.size.millis.max(1), window.every.millis.max(1));
    if every_ms > size_ms {
        let problem =
            report.problem(&field(&path, "every"), "must be at most the size, or events would fall between windows");
        report.push(problem.accepts(format!("at most {}", window.size)));
    } else if size_ms / every_ms > WINDOWS_PER_EVENT_MAX {
        let message = format!("every event would fall into {} windows", size_ms / every_ms);
        let least = (size_ms + WINDOWS_PER_EVENT_MAX - 1) / WINDOWS_PER_EVENT_MAX;
        let problem = report.problem(&field(&path, "every"), message);
        report.push(problem.accepts(format!(
            "at most {WINDOWS_PER_EVENT_MAX}: every at least {}",
            crate::spec::Duration { millis: least }
        )));
    } else if size_ms / gcd(size_ms, every_ms) > PANES_PER_WINDOW_MAX {
        let message = "size and every have no larger common part: each window would be added up of too many panes";
        let problem = report.problem(&field(&path, "every"), message);
        report.push(problem.accepts("an every that divides the size"));
    }
    plan::Window::Hopping { size_ms, every_ms }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Checks that the table's state is bounded, and that what bounds it makes sense.
pub(super) fn bound(table: &Table, path: &str, report: &mut Report) {
    if let Some(keep_for) = table.keep_for {
        positive(report, &field(path, "keepFor"), keep_for);
    }
    let windowed = table.window.is_some() || report.lost(&field(path, "window"));
    if table.window.is_some() {
        for (name, given) in [("keepFor", table.keep_for.is_some()), ("maxGroups", table.max_groups.is_some())] {
            if given {
                report.add(&field(path, name), "a window bounds the table already: this is for tables without one");
            }
        }
    }
    let bounded = table.keep_for.is_some() || table.max_groups.is_some();
    let lost = ["keepFor", "maxGroups"].iter().any(|name| report.lost(&field(path, name)));
    if !windowed && !table.group_by.is_empty() && !bounded && !lost {
        let problem = report.problem(path, "groups without a window would grow for ever");
        report.push(problem.found("").accepts("window, or keepFor: 30d, or maxGroups: 100000"));
    }
    if !windowed && table.emit.final_only {
        report.add(&field(&field(path, "emit"), "final"), "without a window no row is ever final");
    }
}
