//! The SQL of a table: made once, from the plan. Text only.
//!
//! Rows go in as one JSON array, which the server takes apart by the types of the columns: one statement for a batch, no
//! limit of parameters, and decimals keep every digit.

use std::borrow::Cow;

use engine::{
    plan::ColumnPlan,
    value::{Type, write_json_string},
};

use super::{Change, Key, Target};

/// The table of deletions, one in each schema.
pub(super) const TOMBSTONES: &str = "_clickstream_deleted";

/// Statements of one table.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Name of the table.
    pub table: String,
    /// Schema and table, quoted.
    full: String,
    pub create: String,
    /// Columns with the statement that adds each.
    pub add: Vec<(String, String)>,
    pub index: String,
    /// Writes the rows of a JSON array.
    pub write: String,
}

/// Quotes an identifier.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Keeps what was deleted, and in which version.
pub(super) fn create_tombstones(schema: &str) -> String {
    format!(
        "create table if not exists {}.{TOMBSTONES} (\"table\" text not null, _key text not null, _epoch integer not null, \
         _version bigint not null, at timestamptz not null default now(), primary key (\"table\", _key))",
        quote(schema)
    )
}

impl Layout {
    pub(super) fn new(schema: &str, table: Option<&str>, target: &Target) -> Self {
        let table = table.unwrap_or(&target.name).to_owned();
        let full = format!("{}.{}", quote(schema), quote(&table));
        let own: &[(&str, &str)] = match target.is_stream {
            true => &[("_topic", "text not null"), ("_partition", "bigint not null"), ("_offset", "bigint not null")],
            false => &[("_key", "text primary key"), ("_epoch", "integer not null"), ("_version", "bigint not null")],
        };
        let mut columns: Vec<String> = own.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
        columns.extend(target.columns.iter().map(definition));
        if target.is_stream {
            columns.push("primary key (_topic, _partition, _offset)".into());
        }
        let add = target.columns.iter().map(|column| {
            (column.name.clone(), format!("alter table {full} add column if not exists {}", definition(column)))
        });
        let index = indexed(&target.columns[..target.keys]).map_or_else(String::new, |columns| {
            let name = quote(&format!("{}_by_key", &table.chars().take(55).collect::<String>()));
            format!("create index if not exists {name} on {full} {columns}")
        });
        let write = match target.is_stream {
            true => insert_once(&full, target),
            false => upsert(schema, &table, &full, target),
        };
        let create = format!("create table if not exists {full} ({})", columns.join(", "));
        Self { create, add: add.collect(), index, write, table, full }
    }

    /// Deletes the rows of a JSON array ($1), unless newer ones are there.
    pub(super) fn delete(&self) -> String {
        format!(
            "delete from {} t using jsonb_to_recordset($1::text::jsonb) as r(_key text, _epoch integer, _version bigint) \
             where t._key = r._key and (t._epoch, t._version) < (r._epoch, r._version)",
            self.full
        )
    }

    /// Remembers the deletions of a JSON array ($1) for the table ($2).
    pub(super) fn bury(&self, tombstones: &str) -> String {
        format!(
            "insert into {tombstones} as t (\"table\", _key, _epoch, _version) select $2, r._key, r._epoch, r._version \
             from jsonb_to_recordset($1::text::jsonb) as r(_key text, _epoch integer, _version bigint) \
             on conflict (\"table\", _key) do update set _epoch = excluded._epoch, _version = excluded._version, at = now() \
             where (t._epoch, t._version) < (excluded._epoch, excluded._version)"
        )
    }
}

/// Columns of the index by key. A text may be longer than an entry of a b-tree, and its row would never be written: texts are
/// indexed by their hash where they come first, else by their beginning.
fn indexed(keys: &[ColumnPlan]) -> Option<String> {
    let is_short = |column: &&ColumnPlan| !matches!(column.ty, Type::String | Type::List);
    let first = keys.first()?;
    if !is_short(&first) {
        return Some(format!("using hash ({})", quote(&first.name)));
    }
    let one = |column: &ColumnPlan| match column.ty {
        Type::List => None,
        Type::String => Some(format!("left({}, {INDEXED_CHARS})", quote(&column.name))),
        _ => Some(quote(&column.name)),
    };
    let columns: Vec<String> = keys.iter().filter_map(one).collect();
    Some(format!("({})", columns.join(", ")))
}

/// Characters of a text in an index: far from the 2,704 bytes that an entry may have.
const INDEXED_CHARS: usize = 120;

fn sql_type(ty: Type) -> &'static str {
    match ty {
        Type::Boolean => "boolean",
        Type::Integer => "bigint",
        Type::Decimal => "numeric",
        Type::String => "text",
        Type::Timestamp => "timestamptz",
        Type::List => "jsonb",
    }
}

fn definition(column: &ColumnPlan) -> String {
    format!("{} {}", quote(&column.name), sql_type(column.ty))
}

/// Names and typed names of all columns.
fn lists(own: &[(&str, &str)], target: &Target) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<String> = own.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.extend(target.columns.iter().map(|column| quote(&column.name)));
    let mut typed: Vec<String> = own.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    typed.extend(target.columns.iter().map(definition));
    (names, typed)
}

fn upsert(schema: &str, table: &str, full: &str, target: &Target) -> String {
    let (names, typed) = lists(&[("_key", "text"), ("_epoch", "integer"), ("_version", "bigint")], target);
    let sets: Vec<String> = names[1..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let table = table.replace('\'', "''");
    format!(
        "insert into {full} as t ({names}) select {names} from jsonb_to_recordset($1::text::jsonb) as r({typed}) \
         where not exists (select 1 from {schema}.{TOMBSTONES} d where d.\"table\" = '{table}' and d._key = r._key \
         and (d._epoch, d._version) > (r._epoch, r._version)) \
         on conflict (_key) do update set {sets} where (excluded._epoch, excluded._version) > (t._epoch, t._version)",
        names = names.join(", "),
        typed = typed.join(", "),
        schema = quote(schema),
        sets = sets.join(", "),
    )
}

fn insert_once(full: &str, target: &Target) -> String {
    let (names, typed) = lists(&[("_topic", "text"), ("_partition", "bigint"), ("_offset", "bigint")], target);
    format!(
        "insert into {full} ({names}) select {names} from jsonb_to_recordset($1::text::jsonb) as r({typed}) \
         on conflict do nothing",
        names = names.join(", "),
        typed = typed.join(", "),
    )
}

/// A change as the JSON object that the statements take apart.
pub(super) fn object(change: &Change) -> String {
    let mut out = Vec::new();
    match &change.key {
        Key::Row { id, version } | Key::Gone { id, version } => {
            out.extend_from_slice(b"{\"_key\":");
            write_json_string(&without_zero(id), &mut out);
            let (epoch, offset) = (version.epoch, version.offset);
            out.extend_from_slice(format!(",\"_epoch\":{epoch},\"_version\":{offset}").as_bytes());
        }
        Key::Event { topic, partition, offset } => {
            out.extend_from_slice(b"{\"_topic\":");
            write_json_string(topic, &mut out);
            out.extend_from_slice(format!(",\"_partition\":{partition},\"_offset\":{offset}").as_bytes());
        }
    }
    for (name, literal) in &change.columns {
        out.push(b',');
        write_json_string(name, &mut out);
        out.push(b':');
        out.extend_from_slice(unzeroed(literal).as_bytes());
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON of texts is UTF-8")
}

/// PostgreSQL has no zero character: identities that differ by nothing else are one row there.
pub(super) fn without_zero(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

/// PostgreSQL has no zero character, in texts or within lists: its escape becomes that of U+FFFD.
fn unzeroed(literal: &str) -> Cow<'_, str> {
    if !literal.contains("\\u0000") {
        return literal.into();
    }
    let (mut out, mut rest) = (String::with_capacity(literal.len()), literal);
    while let Some(at) = rest.find('\\') {
        let escape = rest[at..].chars().take(2).map(char::len_utf8).sum::<usize>();
        let is_zero = rest[at..].starts_with("\\u0000");
        out.push_str(&rest[..at]);
        out.push_str(if is_zero { "\\ufffd" } else { &rest[at..at + escape] });
        rest = &rest[at + if is_zero { 6 } else { escape }..];
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_characters_are_replaced() {
        let check = |literal: &str, want: &str| assert_eq!(unzeroed(literal), want);
        check(r#""a""#, r#""a""#);
        check(r#"[["a\u0000\n",1]]"#, r#"[["a\ufffd\n",1]]"#);
        check(r#""\\u0000 \u0000\"""#, r#""\\u0000 \ufffd\"""#);
    }
}
