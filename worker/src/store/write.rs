//! The one writer: applies results, exactly once in effect.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use engine::plan::Plan;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tempfile::TempDir;

use super::{
    changes::{ChangedRows, Changes, Summary},
    describe::{TableInfo, describe},
    document::Document,
    encode::write_change,
    error::StoreError,
    layout, limits,
};

mod row;

use self::row::{Statements, TableWriter};

/// One record of the results.
#[derive(Clone, Copy, Debug)]
pub struct ResultRecord<'a> {
    /// Its offset.
    pub offset: u64,
    /// Its key, as [`engine::output::Row::write_key`] writes it.
    pub key: &'a [u8],
    /// Its document, as [`engine::output::Row::write_document`] writes it.
    pub document: &'a [u8],
}

/// The tables, open for writing. There is one for each file.
#[derive(Debug)]
pub struct TableStore {
    connection: Connection,
    path: PathBuf,
    tables: Vec<TableWriter>,
    by_name: BTreeMap<String, usize>,
    /// Results below this are in the tables.
    offset: u64,
    changes: Changes,
    /// Where the file lives when nobody named a place; removed with the store.
    _temporary: Option<TempDir>,
}

impl TableStore {
    /// Opens the tables of a plan in the file at `path`, or in a temporary one.
    ///
    /// A table whose layout differs from the file's is made anew. If rows that belong into it were applied already,
    /// [`TableStore::offset`] starts at 0 again; tables that are up to date pass over the repeats by their version.
    ///
    /// "In memory" is a temporary file without syncs: SQLite's shared memory databases lock readers out while a
    /// writer commits, a WAL file does not, and its pages stay in the page cache all the same.
    ///
    /// # Errors
    /// When the file cannot be used, or comes from a newer program.
    pub fn open(path: Option<&Path>, plan: &Plan) -> Result<Self, StoreError> {
        let temporary = match path {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("clickstream-").tempdir().map_err(StoreError::Temporary)?),
        };
        let path = match (path, &temporary) {
            (Some(path), _) => path.to_owned(),
            (None, Some(directory)) => directory.path().join("tables.db"),
            (None, None) => unreachable!("without a path there is a temporary directory"),
        };
        let failed = |source| StoreError::Sqlite { path: path.clone(), source };
        let mut connection = Connection::open(&path).map_err(failed)?;
        configure(&connection, temporary.is_none()).map_err(failed)?;
        let found = format_of(&connection).map_err(failed)?;
        if found > layout::FORMAT {
            return Err(StoreError::NewerFormat { path, found, known: layout::FORMAT });
        }
        let mut infos = describe(plan);
        connection.set_prepared_statement_cache_capacity(infos.len() * 3 + 8);
        let (offset, rows) = prepare(&mut connection, plan, &mut infos).map_err(failed)?;
        let schemas = engine::output::schemas(plan);
        let tables: Vec<TableWriter> = infos
            .into_iter()
            .zip(schemas)
            .zip(rows)
            .map(|((info, schema), rows)| TableWriter::new(info, schema, rows))
            .collect();
        let by_name = tables.iter().enumerate().map(|(at, table)| (table.info.name.clone(), at)).collect();
        Ok(Self { connection, path, tables, by_name, offset, changes: Changes::default(), _temporary: temporary })
    }

    /// The results offset to go on from: everything below is in the tables.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The file, for a [`super::Reader`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where to listen for changes.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Applies records in the order of their offsets, all or none. Records below [`TableStore::offset`] and records of
    /// an older epoch change nothing; one of a newer epoch empties its table first.
    ///
    /// # Errors
    /// When a record makes no sense or the file cannot be written; then nothing has changed.
    pub fn apply(&mut self, records: &[ResultRecord<'_>]) -> Result<(), StoreError> {
        let known = self.offset;
        self.write(records, |record| record.offset >= known)
    }

    /// Applies records from one of several logs, whose rows have no keys in common. Who reads them keeps the positions.
    ///
    /// # Errors
    /// As [`TableStore::apply`].
    pub fn apply_from_one(&mut self, records: &[ResultRecord<'_>]) -> Result<(), StoreError> {
        self.write(records, |_| true)
    }

    fn write(
        &mut self,
        records: &[ResultRecord<'_>],
        is_fresh: impl Fn(&ResultRecord<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let Some(last) = records.last() else { return Ok(()) };
        let next = self.offset.max(last.offset + 1);
        let failed = |source| StoreError::Sqlite { path: self.path.clone(), source };
        let transaction = self.connection.transaction().map_err(failed)?;
        let commit = Commit::begin(&transaction, &self.tables, &self.by_name, self.changes.rows_wanted());
        let fresh = records.iter().filter(|record| is_fresh(record));
        let (states, changed) = commit.apply_all(fresh).map_err(|(offset, refused)| match refused {
            Refused::Sqlite(source) => failed(source),
            Refused::Bad(reason) => StoreError::BadRecord { offset, reason },
        })?;
        save(&transaction, &self.tables, &states, next).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        self.offset = next;
        for (table, state) in self.tables.iter_mut().zip(states) {
            (table.info.epoch, table.rows) = (state.epoch, state.rows);
        }
        self.announce(next, changed);
        Ok(())
    }

    fn announce(&self, offset: u64, changed: Vec<Changed>) {
        let mut summary = Summary { offset, tables: BTreeMap::new() };
        let mut rows = Vec::new();
        for (table, changed) in self.tables.iter().zip(changed).filter(|(_, changed)| changed.count > 0) {
            let name = table.info.name.clone();
            summary.tables.insert(name.clone(), changed.count);
            let left_out = changed.count - changed.written as u64;
            rows.push(ChangedRows { table: name, offset, rows: changed.rows, count: changed.written, left_out });
        }
        self.changes.send(summary, rows);
    }
}

/// What a table becomes by a commit.
#[derive(Clone, Copy, Debug)]
struct TableState {
    epoch: u32,
    rows: u64,
}

/// What a commit changed in a table, for those who listen.
#[derive(Debug, Default)]
struct Changed {
    count: u64,
    written: usize,
    rows: String,
}

/// Why a record was refused.
enum Refused {
    Sqlite(rusqlite::Error),
    Bad(String),
}

impl From<rusqlite::Error> for Refused {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite(source)
    }
}

/// A commit under way.
struct Commit<'a> {
    transaction: &'a Transaction<'a>,
    tables: &'a [TableWriter],
    by_name: &'a BTreeMap<String, usize>,
    statements: Vec<Option<Statements<'a>>>,
    states: Vec<TableState>,
    changed: Vec<Changed>,
    rows_wanted: bool,
}

impl<'a> Commit<'a> {
    fn begin(
        transaction: &'a Transaction<'a>,
        tables: &'a [TableWriter],
        by_name: &'a BTreeMap<String, usize>,
        rows_wanted: bool,
    ) -> Self {
        Self {
            transaction,
            tables,
            by_name,
            statements: tables.iter().map(|_| None).collect(),
            states: tables.iter().map(|table| TableState { epoch: table.info.epoch, rows: table.rows }).collect(),
            changed: tables.iter().map(|_| Changed::default()).collect(),
            rows_wanted,
        }
    }

    /// Applies the records; an error names the offset of the one that was refused.
    fn apply_all<'r>(
        mut self,
        records: impl Iterator<Item = &'r ResultRecord<'r>>,
    ) -> Result<(Vec<TableState>, Vec<Changed>), (u64, Refused)> {
        for record in records {
            self.apply(record).map_err(|refused| (record.offset, refused))?;
        }
        Ok((self.states, self.changed))
    }

    fn apply(&mut self, record: &ResultRecord<'_>) -> Result<(), Refused> {
        let document: Document<'_> =
            serde_json::from_slice(record.document).map_err(|error| Refused::Bad(error.to_string()))?;
        // A table of an older manifest: its rows are in the log, and nobody asks for them.
        let Some(&at) = self.by_name.get(&*document.table) else { return Ok(()) };
        let (table, state) = (&self.tables[at], &mut self.states[at]);
        if document.epoch < state.epoch {
            return Ok(());
        }
        if document.epoch > state.epoch {
            self.transaction.execute(&format!("DELETE FROM {}", layout::rows_table(&table.info.name)), [])?;
            *state = TableState { epoch: document.epoch, rows: 0 };
        }
        let statements = match &mut self.statements[at] {
            Some(statements) => statements,
            empty => empty.insert(Statements::prepare(self.transaction, table)?),
        };
        let key = table.short_key(record.key, document.epoch);
        if document.deleted {
            state.rows -= statements.delete(key, record.offset)?;
        } else {
            state.rows += statements.upsert(table, key, record.offset, &document)?;
        }
        let changed = &mut self.changed[at];
        changed.count += 1;
        if self.rows_wanted && changed.written < limits::CHANGE_ROWS_MAX {
            write_change(&table.info, &document, record.offset, &mut changed.rows);
            changed.written += 1;
        }
        Ok(())
    }
}

/// Sets the file up: a log that readers can read past, synced on its checkpoints where the file is to be kept.
fn configure(connection: &Connection, durable: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(limits::BUSY_TIME_MAX)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if durable { "NORMAL" } else { "OFF" })?;
    connection.pragma_update(None, "wal_autocheckpoint", limits::LOG_PAGES)?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn format_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes the file's tables what the plan's are. Returns the offset to go on from, and the rows of each table.
fn prepare(connection: &mut Connection, plan: &Plan, infos: &mut [TableInfo]) -> rusqlite::Result<(u64, Vec<u64>)> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(layout::OWN_TABLES)?;
    transaction.pragma_update(None, "user_version", layout::FORMAT)?;
    let stored = stored_tables(&transaction)?;
    for name in stored.keys().filter(|name| !infos.iter().any(|info| info.name == **name)) {
        transaction.execute_batch(&layout::drop(name))?;
        transaction.execute("DELETE FROM _store_tables WHERE name = ?1", [name])?;
    }
    let mut offset = transaction
        .query_row("SELECT value FROM _store WHERE name = 'offset'", [], |row| row.get::<_, i64>(0))
        .optional()?
        .unwrap_or(0) as u64;
    let mut rows = Vec::new();
    for (position, info) in infos.iter_mut().enumerate() {
        let old = stored.get(&info.name);
        match decide(old.map(|(old, _)| old), info) {
            Layout::Keep { epoch } => {
                info.epoch = epoch;
                rows.push(old.map_or(0, |(_, rows)| *rows));
            }
            Layout::Make { read_again } => {
                if read_again {
                    offset = 0;
                }
                transaction.execute_batch(&layout::drop(&info.name))?;
                transaction.execute_batch(&layout::create(info))?;
                rows.push(0);
            }
        }
        let text = serde_json::to_string(info).expect("a description is plain data");
        transaction.execute(
            "INSERT OR REPLACE INTO _store_tables VALUES (?1, ?2, ?3, ?4)",
            params![info.name, position as i64, text, rows[position] as i64],
        )?;
    }
    set(&transaction, "pipeline", &plan.pipeline)?;
    set(&transaction, "offset", offset as i64)?;
    transaction.commit()?;
    Ok((offset, rows))
}

/// What to do with a table of the file.
enum Layout {
    /// It is as it should be; it shows rows of this epoch.
    Keep {
        /// The epoch.
        epoch: u32,
    },
    /// Make it anew.
    Make {
        /// Rows that belong into it lie below the offset.
        read_again: bool,
    },
}

fn decide(old: Option<&TableInfo>, new: &TableInfo) -> Layout {
    let Some(old) = old else { return Layout::Make { read_again: true } };
    let same_columns = TableInfo { epoch: new.epoch, ..old.clone() } == *new;
    match same_columns && old.epoch >= new.epoch {
        true => Layout::Keep { epoch: old.epoch },
        false => Layout::Make { read_again: old.epoch >= new.epoch },
    }
}

fn stored_tables(transaction: &Transaction<'_>) -> rusqlite::Result<BTreeMap<String, (TableInfo, u64)>> {
    let mut statement = transaction.prepare("SELECT name, info, rows FROM _store_tables")?;
    let mut found = statement.query([])?;
    let mut tables = BTreeMap::new();
    while let Some(row) = found.next()? {
        let (name, text, rows): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        // A description that cannot be read is one that differs: the table is made anew.
        if let Ok(info) = serde_json::from_str(&text) {
            tables.insert(name, (info, rows as u64));
        }
    }
    Ok(tables)
}

/// Writes the accounts of a commit: offset, row counts, epochs.
fn save(
    transaction: &Transaction<'_>,
    tables: &[TableWriter],
    states: &[TableState],
    offset: u64,
) -> rusqlite::Result<()> {
    set(transaction, "offset", offset as i64)?;
    let mut counts = transaction.prepare_cached("UPDATE _store_tables SET rows = ?2 WHERE name = ?1")?;
    let mut infos = transaction.prepare_cached("UPDATE _store_tables SET info = ?2 WHERE name = ?1")?;
    for (table, state) in tables.iter().zip(states) {
        if state.rows != table.rows {
            counts.execute(params![table.info.name, state.rows as i64])?;
        }
        if state.epoch != table.info.epoch {
            let info = TableInfo { epoch: state.epoch, ..table.info.clone() };
            infos.execute(params![info.name, serde_json::to_string(&info).expect("a description is plain data")])?;
        }
    }
    Ok(())
}

fn set(transaction: &Transaction<'_>, name: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    transaction.prepare_cached("INSERT OR REPLACE INTO _store VALUES (?1, ?2)")?.execute(params![name, value])?;
    Ok(())
}
