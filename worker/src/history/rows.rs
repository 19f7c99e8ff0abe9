//! Rows of both sides in a temporary file, and what comes of comparing them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use engine::{decode::timestamp, time::Millis};
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use super::reach::{Progress, Reach, Verdict};
use crate::store::Document;

/// Rows between two commits of the file.
const COMMIT_EVERY: u32 = 50_000;

/// Differing rows that are told one by one, of each table.
const SHOWN_MAX: usize = 10;

/// Pages of the file that are kept in memory, in KiB.
const CACHE_KIB: u32 = 65_536;

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What is shown to people.
    Live,
    /// What the archive says.
    Again,
}

impl Side {
    fn table(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Again => "again",
        }
    }
}

/// How the sides of a table differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The table.
    pub table: String,
    /// Rows that are the same.
    pub equal: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Live rows that the archive does not make.
    pub gone: u64,
    /// Rows that only the archive makes.
    pub new: u64,
    /// Rows that were not compared, and why.
    pub left_out: LeftOut,
    /// Some of those that differ.
    pub differing: Vec<Difference>,
}

/// Rows that were not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Windows that may still change.
    pub open: u64,
    /// Rows that began before what the archive holds, or before `--since`.
    pub early: u64,
    /// Running totals that took events which are not archived yet.
    pub ahead: u64,
}

/// A row that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its window and group.
    pub row: String,
    /// What is shown to people.
    pub live: Option<String>,
    /// What the archive says.
    pub again: Option<String>,
}

impl Comparison {
    /// Whether all rows that were compared are the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.changed + self.gone + self.new == 0
    }
}

/// The rows of an epoch.
#[derive(Debug)]
pub struct Rows {
    connection: Connection,
    tables: BTreeSet<String>,
    epoch: u32,
    /// Merged watermarks by side, stream and task.
    watermarks: BTreeMap<(Side, String, String), Option<Millis>>,
    waiting: u32,
    _directory: TempDir,
}

impl Rows {
    /// Room for the rows of `tables` of an epoch.
    ///
    /// # Errors
    /// Where no temporary file can be made.
    pub fn new(epoch: u32, tables: BTreeSet<String>) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("clickstream-replay").tempdir();
        let directory = directory.context("no temporary directory")?;
        let connection = Connection::open(directory.path().join("rows.db"))?;
        connection.execute_batch(&format!(
            "pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -{CACHE_KIB};
             create table live (tab text, key blob, began integer, ended integer, told_at integer, says text, is_final integer,
                                primary key (tab, key)) without rowid;
             create table again (tab text, key blob, began integer, ended integer, told_at integer, says text, is_final integer,
                                 primary key (tab, key)) without rowid;
             begin"
        ))?;
        Ok(Self { connection, tables, epoch, watermarks: BTreeMap::new(), waiting: 0, _directory: directory })
    }

    /// Takes a changed row: key and document as the results have them, and when it was told.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn put(&mut self, side: Side, key: &[u8], document: &[u8], told_at: Millis) -> anyhow::Result<()> {
        let Ok(row) = serde_json::from_slice::<Document<'_>>(document) else { return Ok(()) };
        if row.table == "_watermarks" {
            self.hear(side, &row);
            return Ok(());
        }
        if !self.tables.contains(&*row.table) || row.epoch != self.epoch {
            return Ok(());
        }
        let time = |text: Option<&str>| text.and_then(|text| timestamp(text.as_bytes()));
        let says = (!row.deleted).then(|| row.says());
        self.connection
            .prepare_cached(&format!("insert or replace into {} values (?1, ?2, ?3, ?4, ?5, ?6, ?7)", side.table()))?
            .execute(params![
                row.table,
                key,
                time(row.window_start),
                time(row.window_end),
                told_at,
                says,
                row.is_final
            ])?;
        self.waiting += 1;
        if self.waiting >= COMMIT_EVERY {
            self.connection.execute_batch("commit; begin")?;
            self.waiting = 0;
        }
        Ok(())
    }

    fn hear(&mut self, side: Side, row: &Document<'_>) {
        let text =
            |at: usize| row.group.0.get(at).and_then(|(_, value)| serde_json::from_str::<String>(value.get()).ok());
        let (Some(stream), Some(task)) = (text(0), text(1)) else { return };
        let told = row.values.0.first().map(|(_, value)| value.get().trim_matches('"'));
        let watermark = told.and_then(|told| timestamp(told.as_bytes()));
        self.watermarks.insert((side, stream, task), watermark);
    }

    /// How far a side is with a table that reads `stream`, a join's name among them, over so many partitions of the shuffle.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn progress(&self, side: Side, table: &str, stream: &str, partitions: u32) -> anyhow::Result<Progress> {
        let of = |partition| self.watermarks.get(&(side, stream.to_owned(), format!("merge:{partition}"))).copied()?;
        let all: Option<Vec<Millis>> = (0..partitions).map(of).collect();
        let asked = format!("select max(ended) from {} where tab = ?1 and is_final and says is not null", side.table());
        let last: Option<Millis> = self.connection.query_row(&asked, [table], |row| row.get(0))?;
        Ok(Progress { watermark: all.and_then(|all| all.into_iter().min()), final_end: last })
    }

    /// Compares a table as far as `reach` goes.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn compare(&self, table: &str, reach: &Reach) -> anyhow::Result<Comparison> {
        let mut found = Comparison { table: table.to_owned(), ..Comparison::default() };
        let mut asked = self.connection.prepare(
            "select l.key, l.began, max(l.ended, coalesce(a.ended, l.ended)), l.told_at, l.says, a.says
             from live l left join again a on a.tab = l.tab and a.key = l.key where l.tab = ?1
             union all
             select a.key, a.began, a.ended, null, null, a.says from again a where a.tab = ?1
             and not exists (select 1 from live l where l.tab = a.tab and l.key = a.key)",
        )?;
        let mut rows = asked.query([table])?;
        while let Some(row) = rows.next()? {
            found.add(row, reach)?;
        }
        Ok(found)
    }
}

impl Comparison {
    fn add(&mut self, row: &Row<'_>, reach: &Reach) -> anyhow::Result<()> {
        let (began, ended): (Option<Millis>, Option<Millis>) = (row.get(1)?, row.get(2)?);
        let (live, again): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
        if live.is_none() && again.is_none() {
            return Ok(());
        }
        let count = match reach.judge(began.zip(ended), row.get(3)?) {
            Verdict::Open => &mut self.left_out.open,
            Verdict::Early => &mut self.left_out.early,
            Verdict::Ahead => &mut self.left_out.ahead,
            Verdict::Compare => match (&live, &again) {
                (Some(live), Some(again)) if live == again => &mut self.equal,
                (Some(_), Some(_)) => &mut self.changed,
                (Some(_), None) => &mut self.gone,
                (None, _) => &mut self.new,
            },
        };
        *count += 1;
        let differs = self.changed + self.gone + self.new;
        if differs as usize > self.differing.len() && self.differing.len() < SHOWN_MAX {
            let key: Vec<u8> = row.get(0)?;
            self.differing.push(Difference { row: identity(&key), live, again });
        }
        Ok(())
    }
}

/// The key of a row without table and epoch: window start and group.
#[must_use]
pub fn identity(key: &[u8]) -> String {
    let parts: Vec<Value> = serde_json::from_slice(key).unwrap_or_default();
    let parts = parts.iter().skip(2).filter(|part| !part.is_null());
    parts.map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(rows: &mut Rows, side: Side, start: u64, sales: &str) {
        let key = format!("[\"t\",1,\"2026-01-01T00:0{start}:00Z\",\"a\"]");
        let document = format!(
            "{{\"table\":\"t\",\"epoch\":1,\"window_start\":\"2026-01-01T00:0{start}:00Z\",\"window_end\":\"2026-01-01T00:0{}:00Z\",\
             \"final\":true,\"group\":{{\"k\":\"a\"}},\"values\":{{\"sales\":{sales}}}}}",
            start + 1
        );
        rows.put(side, key.as_bytes(), document.as_bytes(), 0).unwrap();
    }

    #[test]
    fn sides_are_compared_as_far_as_they_reach() {
        let mut rows = Rows::new(1, BTreeSet::from(["t".to_owned()])).unwrap();
        for (start, sales) in [(0, "1"), (1, "2"), (2, "3"), (4, "9"), (5, "1")] {
            put(&mut rows, Side::Live, start, "0");
            put(&mut rows, Side::Live, start, sales);
        }
        for (start, sales) in [(0, "1"), (1, "20"), (3, "3"), (4, "8")] {
            put(&mut rows, Side::Again, start, sales);
        }
        let until = timestamp(b"2026-01-01T00:04:00Z").unwrap();
        let found = rows.compare("t", &Reach::Windows { from: 0, after: 0, until }).unwrap();
        assert_eq!((found.equal, found.changed, found.gone, found.new), (1, 1, 1, 1));
        assert_eq!(found.left_out, LeftOut { open: 2, early: 0, ahead: 0 });
        assert_eq!(found.differing.len(), 3);
        assert_eq!(found.differing[0].row, "2026-01-01T00:01:00Z, a");
        assert_eq!(found.differing[0].live.as_deref(), Some("sales 2"));
        assert!(!found.agrees());
    }
}
