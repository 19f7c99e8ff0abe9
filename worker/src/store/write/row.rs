//! One row into SQLite: the hot path of the store.

use std::fmt::Write as _;

use engine::output::TableSchema;
use rusqlite::{CachedStatement, Transaction, types::Null};

use super::{Document, Refused, TableInfo, layout};

/// A table and its SQL.
#[derive(Debug)]
pub struct TableWriter {
    pub info: TableInfo,
    /// Names as documents spell them.
    schema: TableSchema,
    /// Rows in the table.
    pub rows: u64,
    insert: String,
    update: String,
    delete: String,
}

impl TableWriter {
    pub fn new(info: TableInfo, schema: TableSchema, rows: u64) -> Self {
        let (insert, update, delete) = (layout::insert(&info), layout::update(&info), layout::delete(&info));
        Self { info, schema, rows, insert, update, delete }
    }

    /// The record's key without the table's name and epoch, which every row of a table shares: `["t",1,` goes.
    pub fn short_key<'k>(&self, key: &'k [u8], epoch: u32) -> &'k [u8] {
        let mut prefix = vec![b'['];
        engine::value::write_json_string(&self.schema.name, &mut prefix);
        prefix.push(b',');
        engine::value::write_integer(i64::from(epoch), &mut prefix);
        prefix.push(b',');
        key.strip_prefix(&prefix[..]).unwrap_or(key)
    }
}

/// The prepared statements of a table within one commit.
pub struct Statements<'t> {
    insert: CachedStatement<'t>,
    update: CachedStatement<'t>,
    delete: CachedStatement<'t>,
    /// Texts of decimals that a double does not hold, as members of an object.
    exact: String,
    digits: String,
}

impl<'t> Statements<'t> {
    pub fn prepare(transaction: &'t Transaction<'_>, table: &TableWriter) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: transaction.prepare_cached(&table.insert)?,
            update: transaction.prepare_cached(&table.update)?,
            delete: transaction.prepare_cached(&table.delete)?,
            exact: String::new(),
            digits: String::new(),
        })
    }

    /// Deletes the row; returns how many rows went.
    pub fn delete(&mut self, key: &[u8], version: u64) -> Result<u64, Refused> {
        self.delete.raw_bind_parameter(1, text(key)?)?;
        self.delete.raw_bind_parameter(2, version as i64)?;
        Ok(self.delete.raw_execute()? as u64)
    }

    /// Writes the row; returns how many rows came. Updating first, rather than one upsert, tells new rows from
    /// changed ones, so that the number of rows is always known; most rows are changed many times.
    pub fn upsert(
        &mut self,
        table: &TableWriter,
        key: &[u8],
        version: u64,
        document: &Document<'_>,
    ) -> Result<u64, Refused> {
        let Self { insert, update, exact, digits, .. } = self;
        let key = text(key)?;
        let mut row = RowBinder { table, key, version, document, exact, digits };
        row.bind(update)?;
        if update.raw_execute()? == 1 {
            return Ok(0);
        }
        row.bind(insert)?;
        Ok(insert.raw_execute()? as u64)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(bytes).map_err(|_| Refused::Bad("the key is not UTF-8".into()))
}

struct RowBinder<'a> {
    table: &'a TableWriter,
    key: &'a str,
    version: u64,
    document: &'a Document<'a>,
    exact: &'a mut String,
    digits: &'a mut String,
}

impl RowBinder<'_> {
    fn bind(&mut self, statement: &mut CachedStatement<'_>) -> Result<(), Refused> {
        self.exact.clear();
        statement.raw_bind_parameter(1, self.key)?;
        let mut next = 2;
        if self.table.schema.windowed {
            for bound in [self.document.window_start, self.document.window_end] {
                let bound = bound.ok_or_else(|| Refused::Bad("the window is missing".into()))?;
                statement.raw_bind_parameter(next, bound)?;
                next += 1;
            }
        }
        let TableSchema { group, values, .. } = &self.table.schema;
        let sides = [(group, &self.document.group), (values, &self.document.values)];
        for (columns, pairs) in sides {
            for (place, column) in columns.iter().enumerate() {
                let value = pairs.get(place, &column.name);
                let value = value.ok_or_else(|| Refused::Bad(format!("column {:?} is missing", column.name)))?;
                self.bind_value(statement, next, value)?;
                next += 1;
            }
        }
        statement.raw_bind_parameter(next, self.document.is_final)?;
        statement.raw_bind_parameter(next + 1, self.version as i64)?;
        if self.exact.is_empty() {
            statement.raw_bind_parameter(next + 2, Null)?;
        } else {
            self.exact.push('}');
            statement.raw_bind_parameter(next + 2, self.exact.as_str())?;
        }
        Ok(())
    }

    /// Binds a JSON literal as SQL sees it: truth as 0 and 1, lists as their text, decimals as doubles.
    fn bind_value(&mut self, statement: &mut CachedStatement<'_>, at: usize, literal: &str) -> Result<(), Refused> {
        let bad = || Refused::Bad(format!("{literal} is no value"));
        match literal.as_bytes().first() {
            Some(b'n') => statement.raw_bind_parameter(at, Null)?,
            Some(b't') => statement.raw_bind_parameter(at, 1)?,
            Some(b'f') => statement.raw_bind_parameter(at, 0)?,
            Some(b'[' | b'{') => statement.raw_bind_parameter(at, literal)?,
            Some(b'"') => match literal[1..literal.len() - 1].contains('\\') {
                false => statement.raw_bind_parameter(at, &literal[1..literal.len() - 1])?,
                true => {
                    let unescaped: String = serde_json::from_str(literal).map_err(|_| bad())?;
                    statement.raw_bind_parameter(at, unescaped)?;
                }
            },
            _ => match literal.parse::<i64>() {
                // A whole decimal goes into its REAL column by SQLite's affinity.
                Ok(whole) if whole.unsigned_abs() < 1 << 53 || !self.is_decimal(at) => {
                    statement.raw_bind_parameter(at, whole)?;
                }
                _ => {
                    let double = literal.parse::<f64>().map_err(|_| bad())?;
                    self.keep_exact(at, literal, double);
                    statement.raw_bind_parameter(at, double)?;
                }
            },
        }
        Ok(())
    }

    fn is_decimal(&self, at: usize) -> bool {
        self.table.info.columns[at - 2].ty == "decimal"
    }

    /// Remembers the text of a decimal that its double would not print.
    fn keep_exact(&mut self, at: usize, literal: &str, double: f64) {
        self.digits.clear();
        write!(self.digits, "{double}").expect("a string takes all text");
        if self.digits != literal {
            self.exact.push(if self.exact.is_empty() { '{' } else { ',' });
            let name = &self.table.info.columns[at - 2].name;
            let mut key = Vec::new();
            engine::value::write_json_string(name, &mut key);
            self.exact.push_str(std::str::from_utf8(&key).expect("JSON text is UTF-8"));
            self.exact.push(':');
            self.exact.push_str(literal);
        }
    }
}
