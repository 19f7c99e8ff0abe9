//! What a run came to: the ledger of every stream and table, and how many rows there are.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    store::{Bounds, Format, Reader},
    tell,
};

const STREAMS: &str = "select stream, sum(\"read\") as \"read\", sum(accepted) as accepted, sum(duplicate) as duplicate, \
     sum(invalid) as invalid, sum(expired) as expired, \
     sum(\"read\") - sum(accepted) - sum(duplicate) - sum(invalid) - sum(expired) as unaccounted \
     from _ledger_streams group by stream order by stream";

const TABLES: &str = "select \"table\", sum(accepted) as accepted, sum(counted) as counted, sum(late) as late, \
     sum(filtered) as filtered, sum(accepted) - sum(counted) - sum(late) - sum(filtered) as unaccounted \
     from _ledger_tables group by \"table\" order by \"table\"";

/// Prints the ledger and the size of every table to the standard error.
///
/// # Errors
/// Where the tables cannot be read, or something is unaccounted for.
pub(super) fn print(reader: &Reader, took: Duration) -> anyhow::Result<()> {
    let mut unaccounted = 0;
    for (title, sql) in [("stream", STREAMS), ("table", TABLES)] {
        let outcome = reader.sql(sql, Format::JsonLines, Bounds::none())?;
        for line in String::from_utf8_lossy(&outcome.body).lines() {
            let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)?;
            unaccounted += row.get("unaccounted").and_then(serde_json::Value::as_i64).unwrap_or(0).abs();
            let cells = row.iter().map(|(name, value)| match value.as_str() {
                Some(text) => text.to_owned(),
                None => format!("{name} {value}"),
            });
            tell::line(&format!("{title} {}", cells.collect::<Vec<_>>().join("  ")));
        }
    }
    for table in reader.tables()?.iter().filter(|table| !table.info.name.starts_with('_')) {
        tell::line(&format!("rows in {}: {}", table.info.name, table.rows));
    }
    tell::line(&format!("took {:.1} s", took.as_secs_f64()));
    ensure!(
        unaccounted == 0,
        "{unaccounted} events are unaccounted for: this is a bug of clickstream, please report it"
    );
    Ok(())
}
