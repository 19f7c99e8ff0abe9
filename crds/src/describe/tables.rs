//! Tables: windows, shuffles and why, state and its bound, documents.

use engine::{
    expr::Expr,
    plan::{Aggregate, FunnelPlan, Input, TableKind, TablePlan, Window},
};

use super::{Page, counted, expressions, list, millis};
use crate::Checked;

pub(super) fn tables(checked: &Checked, page: &mut Page) {
    if checked.plan.tables.is_empty() {
        return;
    }
    page.heading("tables");
    for table in &checked.plan.tables {
        let (source, columns) = input(checked, table);
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        page.line(1, &format!("{} ← {source}", table.name));
        if let Some(filter) = &table.filter {
            page.entry("where", &expressions::text(filter, &names));
        }
        page.entry("window", &window(table));
        let groups = list(table.group_by.iter().map(|group| group.column.name.as_str()));
        page.entry("group by", if groups.is_empty() { "nothing: one row" } else { &groups });
        match &table.kind {
            TableKind::Aggregate(_) => outputs(table, &names, page),
            TableKind::Funnel(plan) => funnel(plan, &names, page),
        }
        page.entry("shuffle", &shuffle(checked, table));
        page.entry("state", &state(checked, table));
        page.entry("rows", &rows(table));
        page.entry("key", &key(table));
        page.entry("epoch", &format!("{}, fingerprint {:016x}", table.epoch, table.fingerprint));
    }
}

fn input(checked: &Checked, table: &TablePlan) -> (String, Vec<String>) {
    match table.input {
        Input::Stream(index) => {
            let stream = &checked.plan.streams[index];
            (stream.name.clone(), stream.columns.iter().map(|column| column.name.clone()).collect())
        }
        Input::Join(index) => {
            let join = &checked.plan.joins[index];
            (join.name.clone(), join.columns.iter().map(|column| column.column.name.clone()).collect())
        }
    }
}

fn window(table: &TablePlan) -> String {
    let lateness = match table.lateness_ms {
        0 => String::new(),
        late => format!(", open for corrections for {} more", millis(late)),
    };
    let window = match table.window {
        Window::None => "none: running totals".to_owned(),
        Window::Tumbling { size_ms } => format!("tumbling {}", millis(size_ms)),
        Window::Hopping { size_ms, every_ms } => {
            let windows = (size_ms + every_ms - 1) / every_ms;
            let windows = counted(usize::try_from(windows).unwrap_or(0), "window");
            format!(
                "hopping {} every {}: an event is in {windows}, and counted once, in a pane",
                millis(size_ms),
                millis(every_ms)
            )
        }
        Window::Session { gap_ms } => format!("session, ended by a pause of more than {}", millis(gap_ms)),
    };
    window + &lateness
}

fn outputs(table: &TablePlan, names: &[&str], page: &mut Page) {
    let TableKind::Aggregate(aggregates) = &table.kind else { return };
    let groups = table.group_by.iter().map(|group| group.column.name.clone());
    let results: Vec<String> =
        groups.chain(aggregates.iter().map(|aggregate| expressions::aggregate(aggregate, names))).collect();
    let results: Vec<&str> = results.iter().map(String::as_str).collect();
    for output in &table.outputs {
        let text = expressions::text(&output.expr, &results);
        page.entry("column", &format!("{} {} = {text}", output.column.name, output.column.ty.name()));
    }
}

fn funnel(plan: &FunnelPlan, names: &[&str], page: &mut Page) {
    let same = plan.same_key.as_ref().map(|key| format!(", all steps of one {}", expressions::text(key, names)));
    let by = expressions::text(&plan.by, names);
    page.entry("funnel", &format!("by {by}, within {}{}", millis(plan.within_ms), same.unwrap_or_default()));
    for (at, step) in plan.steps.iter().enumerate() {
        let undone = step.undone_by.as_ref().map(|undone| format!(", undone by {}", expressions::text(undone, names)));
        let when = expressions::text(&step.when, names);
        page.entry("step", &format!("{} {}: {when}{}", at + 1, step.name, undone.unwrap_or_default()));
    }
    page.entry("column", "conversion, seconds_to_convert");
}

fn shuffle(checked: &Checked, table: &TablePlan) -> String {
    let groups = list(table.group_by.iter().map(|group| group.column.name.as_str()));
    let by_group = if groups.is_empty() { "to one partition".to_owned() } else { format!("by {groups}") };
    let joined = if matches!(table.input, Input::Join(_)) { "a second one behind the join's, " } else { "" };
    match &table.kind {
        TableKind::Funnel(plan) => {
            let (_, columns) = input(checked, table);
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            let by = expressions::text(&plan.by, &names);
            format!(
                "{joined}events by {by}, because its steps lie in several partitions and must have one order; then counts {by_group}"
            )
        }
        TableKind::Aggregate(aggregates) => {
            let what = match (table.window, aggregates.iter().any(|plan| is_ordered(plan.function))) {
                (Window::Session { .. }, _) => "partial sessions",
                (_, true) => "partial results with their times",
                _ => "partial results",
            };
            format!("{joined}{what} {by_group}, one message for each partition and commit, {}", reason(checked, table))
        }
    }
}

/// Why partial results must meet.
fn reason(checked: &Checked, table: &TablePlan) -> &'static str {
    let Input::Stream(index) = table.input else {
        return "because the pairs of a group come from several keys of the join";
    };
    let stream = &checked.plan.streams[index];
    let keyed = table.group_by.iter().any(|group| matches!(group.expr, Expr::Column(id, _) if Some(id) == stream.key));
    match (keyed, stream.topics.len()) {
        (true, 1) => {
            "because others may write to the topic, and its partitions may grow: no partition is sure to hold all of a key"
        }
        (true, _) => "because a key's events lie in several topics",
        _ => "because a group's events lie in several raw partitions",
    }
}

fn is_ordered(function: Aggregate) -> bool {
    matches!(function, Aggregate::First | Aggregate::Last | Aggregate::LastN { .. } | Aggregate::LastDistinct { .. })
}

fn state(checked: &Checked, table: &TablePlan) -> String {
    let late = match table.input {
        Input::Stream(index) => lateness(checked, index),
        Input::Join(index) => {
            let join = &checked.plan.joins[index];
            lateness(checked, join.left).max(lateness(checked, join.right))
        }
    };
    let wait = |open: i64| millis(open.saturating_add(late).saturating_add(table.lateness_ms));
    let each = match &table.kind {
        TableKind::Aggregate(aggregates) => counted(aggregates.len(), "aggregate"),
        TableKind::Funnel(plan) => {
            let bound = match table.window {
                Window::Tumbling { size_ms } => {
                    format!("freed {} after a window begins", wait(size_ms + plan.within_ms))
                }
                _ => format!("an entity is forgotten after {} without events", millis(plan.forget_after_ms)),
            };
            return format!(
                "the unsettled events of each entity, at most {}; {bound}",
                engine::limits::FUNNEL_EVENTS_MAX
            );
        }
    };
    match table.window {
        Window::Tumbling { size_ms } | Window::Hopping { size_ms, .. } => {
            format!(
                "{each} for each group of an open window; a window is freed about {} after it begins",
                wait(size_ms)
            )
        }
        Window::Session { gap_ms } => {
            format!("{each} for each open session; freed about {} after its last event", wait(gap_ms))
        }
        Window::None => {
            let bounds = [
                table.keep_for_ms.map(|keep| format!("a group is forgotten after {} without events", millis(keep))),
                table.max_groups.map(|most| format!("at most {most} groups")),
            ];
            let bounds: Vec<String> = bounds.into_iter().flatten().collect();
            match bounds.is_empty() {
                true => format!("{each}, once"),
                false => format!("{each} for each group; {}", bounds.join("; ")),
            }
        }
    }
}

fn lateness(checked: &Checked, stream: usize) -> i64 {
    checked.plan.streams[stream].event_time.as_ref().map_or(0, |time| time.out_of_orderness_ms)
}

fn rows(table: &TablePlan) -> String {
    let last = match table.window {
        Window::None => "never final",
        _ => "final once the watermark passes the window",
    };
    match table.emit.every_ms {
        Some(every) => format!("changed ones every {}; {last}", millis(every)),
        None => "final ones only".to_owned(),
    }
}

fn key(table: &TablePlan) -> String {
    let start = if table.window == Window::None { "null" } else { "window_start" };
    let groups = table.group_by.iter().map(|group| group.column.name.as_str());
    let quoted = format!("\"{}\"", table.name);
    let parts = [quoted.as_str(), "epoch", start].into_iter().chain(groups);
    format!("[{}]", list(parts))
}
