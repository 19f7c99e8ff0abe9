//! A small pipeline without an engine: its plan, and results written as the engine writes them.

use engine::{
    expr::Expr,
    output::{Row, SystemTable, TableSchema, schemas},
    plan::{
        Aggregate, AggregatePlan, ColumnPlan, Emit, FunnelPlan, FunnelStepPlan, GroupPlan, Input, OutputPlan, Plan,
        TableKind, TablePlan, Window,
    },
    value::{Type, Value},
};
use worker::store::{ResultRecord, TableStore};

/// 2025-11-21T00:00:00Z, a multiple of an hour.
pub const NOON: i64 = 1_763_683_200_000;

/// Tables of the plan by index.
pub const SALES: usize = 0;
pub const SESSIONS: usize = 1;
pub const FUNNEL: usize = 2;
pub const TOTALS: usize = 3;

/// Windows of sales by category, sessions, a funnel, and running totals with lists.
pub fn plan() -> Plan {
    Plan {
        pipeline: "shop".into(),
        topics: vec![],
        lookups: vec![],
        streams: vec![],
        joins: vec![],
        tables: vec![sales(), sessions(), funnel(), totals()],
        alerts: vec![],
        shuffle_partitions: 1,
    }
}

fn column(name: &str, ty: Type) -> ColumnPlan {
    ColumnPlan { name: name.into(), ty }
}

fn table(name: &str, window: Window, groups: &[(&str, Type)], kind: TableKind, outputs: Vec<OutputPlan>) -> TablePlan {
    let group =
        |(at, (name, ty)): (usize, &(&str, Type))| GroupPlan { column: column(name, *ty), expr: Expr::Column(at, *ty) };
    TablePlan {
        name: name.into(),
        epoch: 1,
        fingerprint: 0,
        input: Input::Stream(0),
        filter: None,
        window,
        lateness_ms: 0,
        group_by: groups.iter().enumerate().map(group).collect(),
        kind,
        outputs,
        keep_for_ms: None,
        max_groups: None,
        emit: Emit { every_ms: Some(1_000) },
    }
}

fn aggregate(function: Aggregate, ty: Type) -> AggregatePlan {
    let argument = (function != Aggregate::Count).then_some(Expr::Column(1, ty));
    AggregatePlan { function, argument, filter: None }
}

fn output(name: &str, at: usize, ty: Type) -> OutputPlan {
    OutputPlan { column: column(name, ty), expr: Expr::Column(at, ty) }
}

fn sales() -> TablePlan {
    let kind = TableKind::Aggregate(vec![
        aggregate(Aggregate::Sum, Type::Decimal),
        aggregate(Aggregate::Count, Type::Integer),
        aggregate(Aggregate::Average, Type::Decimal),
    ]);
    let outputs = vec![
        output("total_sales", 1, Type::Decimal),
        output("transaction_count", 2, Type::Integer),
        output("average", 3, Type::Decimal),
    ];
    let window = Window::Tumbling { size_ms: 60_000 };
    table("category_sales", window, &[("category", Type::String)], kind, outputs)
}

fn sessions() -> TablePlan {
    let kind = TableKind::Aggregate(vec![
        aggregate(Aggregate::Count, Type::Integer),
        aggregate(Aggregate::BoolOr, Type::Boolean),
    ]);
    let outputs = vec![output("events", 1, Type::Integer), output("converted", 2, Type::Boolean)];
    table("sessions", Window::Session { gap_ms: 1_800_000 }, &[("user_id", Type::String)], kind, outputs)
}

fn funnel() -> TablePlan {
    let steps = ["viewed", "carted", "bought"];
    let step =
        |name: &&str| FunnelStepPlan { name: (*name).into(), when: Expr::Column(0, Type::Boolean), undone_by: None };
    let kind = TableKind::Funnel(FunnelPlan {
        by: Expr::Column(0, Type::String),
        within_ms: 3_600_000,
        same_key: None,
        steps: steps.iter().map(step).collect(),
        forget_after_ms: 86_400_000,
    });
    let mut outputs: Vec<OutputPlan> =
        steps.iter().enumerate().map(|(at, name)| output(name, at + 1, Type::Integer)).collect();
    outputs.push(output("conversion", 4, Type::Decimal));
    outputs.push(output("seconds_to_convert", 5, Type::Decimal));
    let window = Window::Tumbling { size_ms: 3_600_000 };
    table("checkout_funnel", window, &[("device", Type::String)], kind, outputs)
}

fn totals() -> TablePlan {
    let kind = TableKind::Aggregate(vec![
        aggregate(Aggregate::Count, Type::Integer),
        aggregate(Aggregate::Top { count: 3 }, Type::String),
    ]);
    let outputs = vec![output("events", 1, Type::Integer), output("top_products", 2, Type::List)];
    table("by_region", Window::None, &[("region", Type::String)], kind, outputs)
}

pub fn text(text: &str) -> Value {
    Value::String(text.into())
}

pub fn decimal(text: &str) -> Value {
    Value::Decimal(engine::decimal::Decimal::parse(text.as_bytes()).expect("a decimal"))
}

/// A row of `category_sales` in the given minute.
pub fn sale(minute: i64, category: Value, total: &str, count: i64) -> Row {
    let start = NOON + minute * 60_000;
    let average = decimal(total);
    Row {
        table: SALES,
        window: Some((start, start + 60_000)),
        group: vec![category],
        values: vec![decimal(total), Value::Integer(count), average],
        is_final: false,
        deleted: false,
    }
}

/// A row of a table without a window.
pub fn total(table: usize, group: Vec<Value>, values: Vec<Value>) -> Row {
    Row { table, window: None, group, values, is_final: false, deleted: false }
}

/// A row of one of the pipeline's own tables.
pub fn system(plan: &Plan, table: SystemTable, group: &[&str], counts: &[i64]) -> Row {
    let values = counts.iter().map(|count| Value::Integer(*count)).collect();
    total(table.index(plan), group.iter().map(|name| text(name)).collect(), values)
}

/// The results topic of the fixture: gives rows offsets and bytes.
pub struct Results {
    schemas: Vec<TableSchema>,
    pub next: u64,
}

impl Results {
    pub fn new(plan: &Plan) -> Self {
        Self { schemas: schemas(plan), next: 0 }
    }

    /// Writes the rows as records, in order.
    pub fn write(&mut self, rows: &[Row]) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
        let record = |row: &Row| {
            let (mut key, mut document) = (vec![], vec![]);
            row.write_key(&self.schemas[row.table], &mut key);
            row.write_document(&self.schemas[row.table], &mut document);
            self.next += 1;
            (self.next - 1, key, document)
        };
        rows.iter().map(record).collect()
    }

    /// Writes the rows and applies them.
    pub fn apply(&mut self, store: &mut TableStore, rows: &[Row]) {
        let written = self.write(rows);
        store.apply(&records(&written)).expect("the rows are well-formed");
    }
}

/// Borrows written records.
pub fn records(written: &[(u64, Vec<u8>, Vec<u8>)]) -> Vec<ResultRecord<'_>> {
    written.iter().map(|(offset, key, document)| ResultRecord { offset: *offset, key, document }).collect()
}
