//! Parquet files as a reader of a lake sees them.

use std::{collections::BTreeSet, fs::File, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, Row},
};

/// Topic, partition and offset of raw records.
pub type Places = BTreeSet<(String, i64, i64)>;

/// Adds where the rows of a file come from.
///
/// # Errors
/// If the file cannot be read, or a row was there before.
pub fn add_places(file: &Path, found: &mut Places) -> Result<()> {
    let reader = SerializedFileReader::new(File::open(file)?)?;
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let place = (cell(&row, "_topic")?.to_string(), number(&row, "_partition")?, number(&row, "_offset")?);
        ensure!(found.insert(place.clone()), "{place:?} comes twice");
    }
    Ok(())
}

fn cell<'a>(row: &'a Row, name: &str) -> Result<&'a Field> {
    let found = row.get_column_iter().find(|(known, _)| *known == name);
    found.map(|(_, cell)| cell).with_context(|| format!("no column {name}"))
}

fn number(row: &Row, name: &str) -> Result<i64> {
    match cell(row, name)? {
        Field::Long(number) => Ok(*number),
        other => bail!("{name} is {other}"),
    }
}
