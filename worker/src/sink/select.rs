//! Which rows and events a sink takes that passes them on as they are.

use anyhow::Context;

use super::cells::{Wanted, WantedTables, members};
use crate::{
    log::record::{Silver, read_silver},
    store::Document,
};

/// The event in a record, if it is wanted.
///
/// # Errors
/// On bytes that the engine did not write.
pub fn event<'a>(wanted: &mut Wanted, record: &'a [u8]) -> anyhow::Result<Option<Silver<'a>>> {
    let event = read_silver(record).context("damaged events")?;
    if wanted.has_condition() {
        let pairs = members(event.json).context("damaged events")?;
        if !wanted.takes_event(&pairs, &mut Vec::new()) {
            return Ok(None);
        }
    }
    Ok(Some(event))
}

/// The epoch of a row, if it is wanted. A deletion always is: whether the row before it was, nobody remembers.
///
/// # Errors
/// On bytes that the engine did not write.
pub fn row(tables: &mut WantedTables, document: &[u8]) -> anyhow::Result<Option<u32>> {
    let row: Document<'_> = serde_json::from_slice(document).context("damaged results")?;
    let Some(wanted) = tables.get_mut(&*row.table) else { return Ok(None) };
    Ok((row.deleted || wanted.takes_row(&row)).then_some(row.epoch))
}
