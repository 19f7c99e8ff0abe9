//! What a table's rows, or a stream's accounts, depend on, as one number. When it changes, a new epoch begins.
//!
//! It is taken from the manifest's own words, not from the plan, so that a new version of this program rebuilds nothing.
//! What changes no row (emission, quality targets, descriptions, sinks) is left out.

use engine::plan::Plan;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::spec::{Emit, PipelineSpec, Stream, Table};

/// Sets the fingerprints of all tables.
pub(super) fn set(plan: &mut Plan, spec: &PipelineSpec) {
    for table in &mut plan.tables {
        if let Some(declared) = spec.tables.iter().find(|declared| declared.name == table.name) {
            table.fingerprint = fingerprint(declared, spec, plan.shuffle_partitions);
        }
    }
}

/// What the ledger, the quality and the accepted events of a stream depend on.
pub(crate) fn of_stream(stream: &Stream, spec: &PipelineSpec) -> u64 {
    let mut hash = Xxh3::new();
    add_stream(&mut hash, stream, spec);
    add(&mut hash, &stream.quality.as_ref().map(|quality| quality.over));
    add(&mut hash, &spec.sinks.iter().any(|sink| sink.streams.contains(&stream.name)));
    hash.digest()
}

fn fingerprint(table: &Table, spec: &PipelineSpec, shuffle_partitions: u32) -> u64 {
    let mut hash = Xxh3::new();
    add(&mut hash, &shuffle_partitions);
    add(&mut hash, &Table { emit: Emit::default(), ..table.clone() });
    // Alerts remember rows of the table: they begin anew together.
    for alert in spec.alerts.iter().filter(|alert| alert.table == table.name) {
        add(&mut hash, &(&alert.name, &alert.when, alert.for_windows));
    }
    let named = |name: &str| spec.streams.iter().find(|stream| stream.name == name);
    if let Some(stream) = named(&table.from) {
        add_stream(&mut hash, stream, spec);
        if let Some(join) = &stream.join {
            for side in [&join.left, &join.right] {
                named(side).into_iter().for_each(|stream| add_stream(&mut hash, stream, spec));
            }
        }
    }
    hash.digest()
}

fn add_stream(hash: &mut Xxh3, stream: &Stream, spec: &PipelineSpec) {
    let mut stream = stream.clone();
    stream.quality = None;
    stream.fields.iter_mut().for_each(|field| field.description = None);
    add(hash, &stream);
    for lookup in spec.lookups.iter().filter(|lookup| stream.enrich.iter().any(|enrich| enrich.lookup == lookup.name)) {
        add(hash, lookup);
    }
}

fn add(hash: &mut Xxh3, part: &impl Serialize) {
    let text = serde_json::to_vec(part).expect("a spec is maps with text keys, lists and scalars");
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(&text);
}
