//! The SQL that makes a table, writes a row and deletes one. Text only; nothing here touches a connection.

use super::describe::{Role, TableInfo};

/// Format of the file. Raised when the store's own tables change.
pub const FORMAT: i64 = 1;

/// The store's own tables: facts about the file, and one line for each table with its description.
pub const OWN_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS _store (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS _store_tables (
        name TEXT PRIMARY KEY, position INTEGER NOT NULL, info TEXT NOT NULL, rows INTEGER NOT NULL) WITHOUT ROWID;
";

/// Quotes an identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The table behind the view.
pub fn rows_table(name: &str) -> String {
    quote(&format!("_rows_{name}"))
}

/// Creates the rows, an index by window, and the view that people see.
///
/// Rows lie in the order of their keys, which begin with the window: neighbours in time are neighbours on disk.
pub fn create(info: &TableInfo) -> String {
    let rows = rows_table(&info.name);
    let mut columns = String::from("_key TEXT NOT NULL PRIMARY KEY");
    let mut shown = Vec::new();
    for column in &info.columns {
        let bound = if matches!(column.role, Role::Window | Role::State) { " NOT NULL" } else { "" };
        columns += &format!(", {} {}{bound}", quote(&column.name), affinity(&column.ty));
        shown.push(quote(&column.name));
    }
    let mut sql = format!("CREATE TABLE {rows} ({columns}, _exact TEXT) WITHOUT ROWID;\n");
    if info.window.is_some() {
        let index = quote(&format!("_by_window_{}", info.name));
        sql += &format!("CREATE INDEX {index} ON {rows} ({});\n", window_order(info));
    }
    sql + &format!("CREATE VIEW {} AS SELECT {} FROM {rows};\n", quote(&info.name), shown.join(", "))
}

/// The expression that puts windows in order of time, and that is indexed.
///
/// `12:00:00.050Z` sorts before `12:00:00Z` as text; without the Z it sorts behind it.
pub fn window_order(info: &TableInfo) -> &'static str {
    if info.has_fractional_windows() { "rtrim(window_start, 'Z')" } else { "window_start" }
}

/// Removes a table with all its rows.
pub fn drop(name: &str) -> String {
    format!("DROP VIEW IF EXISTS {}; DROP TABLE IF EXISTS {};", quote(name), rows_table(name))
}

/// Parameters of [`insert`] and [`update`]: ?1 is the key, then all columns in order, then the exact decimals.
/// A row that is there already in a newer version stays as it is.
pub fn insert(info: &TableInfo) -> String {
    let marks: Vec<String> = (1..=info.columns.len() + 2).map(|at| format!("?{at}")).collect();
    format!("INSERT OR IGNORE INTO {} VALUES ({})", rows_table(&info.name), marks.join(", "))
}

/// Changes everything that is not part of the key, unless what is there is newer.
pub fn update(info: &TableInfo) -> String {
    let sets = info.columns.iter().enumerate().filter(|(_, column)| column.role != Role::Group);
    let mut sets: Vec<String> = sets.map(|(at, column)| format!("{} = ?{}", quote(&column.name), at + 2)).collect();
    sets.push(format!("_exact = ?{}", info.columns.len() + 2));
    let version = info.columns.len() + 1;
    format!("UPDATE {} SET {} WHERE _key = ?1 AND version <= ?{version}", rows_table(&info.name), sets.join(", "))
}

/// Deletes by key (?1), unless what is there is newer than the deletion (?2).
pub fn delete(info: &TableInfo) -> String {
    format!("DELETE FROM {} WHERE _key = ?1 AND version <= ?2", rows_table(&info.name))
}

fn affinity(ty: &str) -> &'static str {
    match ty {
        "boolean" | "integer" => "INTEGER",
        "decimal" => "REAL",
        _ => "TEXT",
    }
}
