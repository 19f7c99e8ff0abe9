//! JSON of accepted events and of rows as typed values, and conditions over them.

use std::collections::BTreeMap;

use crds::expression;
use engine::{
    column::Column,
    decimal::Decimal,
    decode::timestamps::timestamp,
    kernel::Program,
    output::TableSchema,
    plan::{ColumnPlan, StreamPlan},
    value::{Type, Value},
};

use crate::store::{Document, Pairs};

/// Columns of a table's rows as conditions see them: group, values, window, `final`.
fn table_columns(schema: &TableSchema) -> Vec<ColumnPlan> {
    let column = |name: &str, ty| ColumnPlan { name: name.into(), ty };
    let mut columns: Vec<ColumnPlan> = schema.group.iter().chain(&schema.values).cloned().collect();
    if schema.windowed {
        columns.extend(["window_start", "window_end"].map(|name| column(name, Type::Timestamp)));
    }
    columns.push(column("final", Type::Boolean));
    columns
}

/// The value that a JSON literal of our own making says; null where it says nothing of that type. Lists are no values.
fn value(ty: Type, literal: &str) -> Value {
    let text = || serde_json::from_str::<String>(literal).ok();
    let read = match ty {
        Type::Boolean => literal.parse().ok().map(Value::Boolean),
        Type::Integer => literal.parse().ok().map(Value::Integer),
        Type::Decimal => Decimal::parse(literal.as_bytes()).map(Value::Decimal),
        Type::String => text().map(|text| Value::String(text.into())),
        Type::Timestamp => text().and_then(|text| timestamp(text.as_bytes())).map(Value::Timestamp),
        Type::List => None,
    };
    read.unwrap_or(Value::Null)
}

/// What a sink takes of one stream or table.
pub struct Wanted {
    /// Columns in the order of the values that conditions see.
    columns: Vec<ColumnPlan>,
    filter: Option<Filter>,
}

/// What a sink takes of tables, by their names.
pub type WantedTables = BTreeMap<String, Wanted>;

impl Wanted {
    /// Events of `stream` that meet the condition.
    ///
    /// # Errors
    /// What is wrong with the condition.
    pub fn events(stream: &StreamPlan, filter: Option<&str>) -> Result<Self, String> {
        let filter = filter.map(|text| Filter::new(text, &stream.columns)).transpose()?;
        Ok(Self { columns: stream.columns.clone(), filter })
    }

    /// Rows of `tables` that meet the condition.
    ///
    /// # Errors
    /// What is wrong with the condition.
    pub fn tables(schemas: &[TableSchema], tables: &[String], filter: Option<&str>) -> Result<WantedTables, String> {
        let wanted = schemas.iter().filter(|schema| tables.contains(&schema.name));
        let one = |schema: &TableSchema| {
            let columns = table_columns(schema);
            let filter = filter.map(|text| Filter::new(text, &columns)).transpose()?;
            Ok((schema.name.clone(), Self { columns, filter }))
        };
        wanted.map(one).collect()
    }

    /// Whether there is a condition at all.
    #[must_use]
    pub fn has_condition(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether the event is wanted; `row` is filled with its values.
    pub fn takes_event(&mut self, event: &Pairs<'_>, row: &mut Vec<Value>) -> bool {
        row.clear();
        row.extend(self.columns.iter().enumerate().map(|(place, column)| {
            event.get(place, &column.name).map_or(Value::Null, |literal| value(column.ty, literal))
        }));
        self.filter.as_mut().is_none_or(|filter| filter.keeps(row))
    }

    /// Whether the row is wanted.
    pub fn takes_row(&mut self, row: &Document<'_>) -> bool {
        let Some(filter) = &mut self.filter else { return true };
        let groups = row.group.0.len();
        let bound = |bound: Option<&str>| {
            bound.and_then(|text| timestamp(text.as_bytes())).map_or(Value::Null, Value::Timestamp)
        };
        let cell = |(place, column): (usize, &ColumnPlan)| {
            let name = column.name.as_str();
            let found = row.group.get(place, name).or_else(|| row.values.get(place.wrapping_sub(groups), name));
            match (found, name) {
                (Some(literal), _) => value(column.ty, literal),
                (None, "window_start") => bound(row.window_start),
                (None, "window_end") => bound(row.window_end),
                (None, "final") => Value::Boolean(row.is_final),
                (None, _) => Value::Null,
            }
        };
        let row: Vec<Value> = self.columns.iter().enumerate().map(cell).collect();
        filter.keeps(&row)
    }
}

/// A sink's `where`.
struct Filter {
    program: Program,
    cells: Vec<Column>,
    arena: Vec<u8>,
}

impl Filter {
    /// Reads the condition over `columns`.
    ///
    /// # Errors
    /// What is wrong with it; the manifest's check told it before.
    fn new(text: &str, columns: &[ColumnPlan]) -> Result<Self, String> {
        let typed: Vec<ColumnPlan> = columns.iter().map(plain).collect();
        let parsed = expression::parse_as(text, &typed, Type::Boolean);
        let told = |problems: Vec<expression::ExpressionProblem>| {
            problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
        };
        let cells = typed.iter().map(|column| Column::new(column.ty)).collect();
        Ok(Self { program: Program::compile(&parsed.map_err(told)?), cells, arena: Vec::new() })
    }

    /// Whether the condition is true, not null, of a row with these values.
    fn keeps(&mut self, values: &[Value]) -> bool {
        self.arena.clear();
        for (cell, value) in self.cells.iter_mut().zip(values) {
            cell.clear();
            match value.type_of() {
                Some(ty) if ty == cell.type_of() => cell.push_value(value, &mut self.arena),
                _ => cell.push_null(),
            }
        }
        self.program.eval_mask(&self.cells, 1, &mut self.arena)[0]
    }
}

/// A list cannot be asked for anything: it takes its place as text.
fn plain(column: &ColumnPlan) -> ColumnPlan {
    let ty = if column.ty == Type::List { Type::String } else { column.ty };
    ColumnPlan { name: column.name.clone(), ty }
}

/// A JSON object's members as they were written, or `None` where it is none.
#[must_use]
pub fn members(json: &[u8]) -> Option<Pairs<'_>> {
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_asked_of_what_json_says() {
        let column = |name: &str, ty| ColumnPlan { name: name.into(), ty };
        let columns =
            vec![column("action", Type::String), column("price", Type::Decimal), column("at", Type::Timestamp)];
        let filter = Filter::new("action = 'purchase' and price > 0.5", &columns).ok();
        let mut wanted = Wanted { columns, filter };
        let mut check = |json: &str, kept: bool| {
            let pairs = members(json.as_bytes()).unwrap();
            assert_eq!(wanted.takes_event(&pairs, &mut Vec::new()), kept, "{json}");
        };
        check(r#"{"action":"purchase","price":0.51,"at":"2026-01-01T00:00:00Z"}"#, true);
        check(r#"{"action":"purchase","price":0.5,"at":null}"#, false);
        check(r#"{"action":"purchase","price":null,"at":null}"#, false);
        check(r#"{"price":3,"action":"pur\u0063hase"}"#, true);
        check(r#"{"action":"view","price":3,"at":null}"#, false);
    }

    #[test]
    fn a_condition_sees_group_values_window_and_state_of_a_row() {
        let column = |name: &str, ty| ColumnPlan { name: name.into(), ty };
        let schema = TableSchema {
            name: "sales".into(),
            epoch: 1,
            windowed: true,
            group: vec![column("category", Type::String)],
            values: vec![column("revenue", Type::Decimal), column("top", Type::List)],
        };
        let json =
            br#"{"table":"sales","epoch":1,"window_start":"2026-01-01T00:00:00Z","window_end":"2026-01-01T00:01:00Z",
            "final":true,"group":{"category":"a"},"values":{"revenue":1.5,"top":[["x",1]]}}"#;
        let row: Document<'_> = serde_json::from_slice(json).unwrap();
        let check = |text: &str, kept: bool| {
            let mut wanted = Wanted::tables(std::slice::from_ref(&schema), &["sales".into()], Some(text)).unwrap();
            assert_eq!(wanted.get_mut("sales").unwrap().takes_row(&row), kept, "{text}");
        };
        check("revenue > 1 and category = 'a' and final", true);
        check("revenue > 1.5", false);
        check("window_start >= '2026-01-01T00:00:00Z' and window_end < '2026-01-01T00:02:00Z'", true);
        check("category is null", false);
    }
}
