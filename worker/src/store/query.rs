//! A question about one table, as SQL. The user's texts stay recognisable, so that positions point into them.

use super::{
    describe::{Role, TableInfo},
    error::{Part, QueryError},
    layout::{quote, rows_table, window_order},
    suggest,
};

/// A question about one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableQuery {
    /// Name of the table.
    pub table: String,
    /// A condition in SQL over the table's columns.
    pub filter: Option<String>,
    /// `column [asc|desc], …`; newest windows first unless said.
    pub order: Option<String>,
    /// At most so many rows.
    pub limit: u64,
    /// Rows to pass over.
    pub offset: u64,
}

/// A statement, and where in it the user's condition stands.
pub(super) struct Statement {
    pub sql: String,
    pub filter_at: usize,
}

impl TableQuery {
    /// Writes the statement: the table's columns, then `_exact`; one row more than asked for, to know if there are more.
    pub(super) fn statement(&self, info: &TableInfo) -> Result<Statement, QueryError> {
        let columns: Vec<String> = info.columns.iter().map(|column| quote(&column.name)).collect();
        let mut sql = format!("SELECT {}, _exact FROM {}", columns.join(", "), rows_table(&info.name));
        sql += &format!(" AS {}", quote(&info.name));
        let mut filter_at = 0;
        if let Some(filter) = self.filter.as_deref().filter(|text| !text.trim().is_empty()) {
            check_closed(filter)?;
            sql += " WHERE (";
            filter_at = sql.len();
            // A line comment must not swallow the parenthesis.
            sql += &format!("{filter}\n)");
        }
        let order = match &self.order {
            Some(order) => order_by(order, info)?,
            None if info.window.is_some() => format!("{} DESC, _key", window_order(info)),
            None => "_key".into(),
        };
        // SQLite counts to 2^63.
        let most = |rows: u64| rows.min(i64::MAX as u64);
        sql += &format!(" ORDER BY {order} LIMIT {} OFFSET {}", most(self.limit.saturating_add(1)), most(self.offset));
        Ok(Statement { sql, filter_at })
    }
}

/// Reads `column [asc|desc]` or `-column`, separated by commas.
fn order_by(text: &str, info: &TableInfo) -> Result<String, QueryError> {
    let mut terms = Vec::new();
    let mut at = 0;
    for term in text.split(',') {
        let start = at + (term.len() - term.trim_start().len());
        at += term.len() + 1;
        let bad = |message: String| QueryError::BadText { part: Part::Order, message, position: Some(start) };
        let term = term.trim();
        let (name, direction) = match (term.strip_prefix('-'), term.rsplit_once(char::is_whitespace)) {
            (Some(name), _) => (name.trim(), "DESC"),
            (None, Some((name, word))) if word.eq_ignore_ascii_case("desc") => (name.trim(), "DESC"),
            (None, Some((name, word))) if word.eq_ignore_ascii_case("asc") => (name.trim(), "ASC"),
            (None, _) => (term, "ASC"),
        };
        let name = name.trim_matches('"');
        let column = info.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let near = suggest::nearest_or_all(name, info.columns.iter().map(|column| &*column.name));
            bad(format!("no column {name:?} in {}; there is {}", info.name, near.join(", ")))
        })?;
        let fractional = column.role == Role::Window && info.has_fractional_windows();
        terms.push(match fractional {
            true => format!("rtrim({}, 'Z') {direction}", quote(&column.name)),
            false => format!("{} {direction}", quote(&column.name)),
        });
    }
    terms.push("_key".into());
    Ok(terms.join(", "))
}

/// Refuses a condition that would close the parenthesis it stands in, or leave one open.
fn check_closed(filter: &str) -> Result<(), QueryError> {
    let bad = |message: &str, at: usize| {
        Err(QueryError::BadText { part: Part::Where, message: message.into(), position: Some(at) })
    };
    let mut open = Vec::new();
    let mut quoted: Option<(u8, usize)> = None;
    for (at, byte) in filter.bytes().enumerate() {
        match (quoted, byte) {
            (Some((mark, _)), byte) if byte == mark => quoted = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quoted = Some((byte, at)),
            (None, b'(') => open.push(at),
            (None, b')') if open.pop().is_none() => return bad("this parenthesis closes nothing", at),
            (None, b';') => return bad("a condition is one expression, without ';'", at),
            (None, _) => {}
        }
    }
    match (quoted, open.last()) {
        (Some((_, at)), _) => bad("this quote is never closed", at),
        (None, Some(at)) => bad("this parenthesis is never closed", *at),
        (None, None) => Ok(()),
    }
}
