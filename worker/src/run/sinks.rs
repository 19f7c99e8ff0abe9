//! How the sinks of a run are doing: what the API and the page show of them.

use crds::spec::{PipelineSpec, Sink};

use super::{console::ConsoleSink, outlets::Outlet, pump::Pump};
use crate::{driver::Shared, ports::Log, serve::SinkStatus};

/// What the API and the page read; every run has it.
const TABLES: &str = "tables";

/// The state of the embedded tables, then of every sink of the manifest.
pub(super) fn status(
    shared: &Shared,
    spec: &PipelineSpec,
    pump: &Pump,
    consoles: &[ConsoleSink],
    outlets: &[Outlet],
) -> Vec<SinkStatus> {
    let end = shared.log.offsets(shared.layout.results()).end;
    let at = |name: &str, kind: &str, next: u64| SinkStatus {
        name: name.into(),
        kind: kind.into(),
        written: next,
        lag: end.saturating_sub(next),
        problem: None,
    };
    let tables = SinkStatus {
        problem: pump.has_failed().then(|| "the tables cannot be written; the log says why".into()),
        ..at(TABLES, "sqlite", pump.offset())
    };
    let of_sink = |sink: &Sink| {
        if let Some(console) = consoles.iter().find(|console| console.name() == sink.name) {
            return Some(at(&sink.name, "console", console.offset()));
        }
        if let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == sink.name) {
            let (written, lag) = outlet.progress();
            let problem = outlet.has_failed().then(|| "it stopped; the log says why".into());
            return Some(SinkStatus { name: sink.name.clone(), kind: outlet.kind().into(), written, lag, problem });
        }
        let kind = substituted(sink)?;
        Some(match sink.tables.is_empty() {
            true => at(&sink.name, &format!("{kind} (embedded log)"), end),
            false => at(&sink.name, &format!("{kind} (embedded tables)"), pump.offset()),
        })
    };
    [tables].into_iter().chain(spec.sinks.iter().filter_map(of_sink)).collect()
}

/// Sinks whose server is not part of this mode.
fn substituted(sink: &Sink) -> Option<&'static str> {
    match sink {
        sink if sink.couchbase.is_some() => Some("couchbase"),
        sink if sink.postgres.is_some() => Some("postgres"),
        sink if sink.redis.is_some() => Some("redis"),
        _ => None,
    }
}
