//! From accumulators to rows: results of many groups at once through the output expressions.

use crate::{
    aggregate::Accumulators,
    codec::Reader,
    column::Column,
    decimal::Decimal,
    expr::Expr,
    kernel::Program,
    output::Row,
    plan::{TableKind, TablePlan},
    time::Millis,
    value::{Type, Value},
};

/// One row to be made: its key bytes, window and accumulator row.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) key: Vec<u8>,
    pub(super) window: Option<(Millis, Millis)>,
    pub(super) group: u32,
    pub(super) is_final: bool,
}

/// Makes rows of one table.
pub struct RowBuilder {
    table: usize,
    group_types: Vec<Type>,
    /// Types of the result columns behind the group columns.
    result_types: Vec<Type>,
    outputs: Vec<Output>,
    funnel_steps: Option<usize>,
    columns: Vec<Column>,
    arena: Vec<u8>,
}

enum Output {
    /// A result column as it is; the only way for lists.
    Plain(usize),
    /// An expression over result columns.
    Program(Box<Program>),
}

impl RowBuilder {
    /// Makes the builder of table number `at`.
    #[must_use]
    pub fn new(at: usize, table: &TablePlan) -> Self {
        let (result_types, funnel_steps) = match &table.kind {
            TableKind::Aggregate(aggregates) => (aggregates.iter().map(|each| each.type_of()).collect(), None),
            TableKind::Funnel(funnel) => {
                let mut types = vec![Type::Integer; funnel.steps.len()];
                types.extend([Type::Decimal, Type::Decimal]);
                (types, Some(funnel.steps.len()))
            }
        };
        let output = |expr: &Expr| match expr {
            Expr::Column(column, _) => Output::Plain(*column),
            expr => Output::Program(Box::new(Program::compile(expr))),
        };
        Self {
            table: at,
            group_types: table.group_by.iter().map(|group| group.column.ty).collect(),
            result_types,
            outputs: table.outputs.iter().map(|each| output(&each.expr)).collect(),
            funnel_steps,
            columns: Vec::new(),
            arena: Vec::new(),
        }
    }

    /// Makes the rows of `pending` and appends them to `out`.
    pub(super) fn build(&mut self, accumulators: &Accumulators, pending: &[Pending], out: &mut Vec<Row>) {
        if pending.is_empty() {
            return;
        }
        let results: Vec<Vec<Value>> = pending.iter().map(|row| self.result_values(accumulators, row)).collect();
        let values = self.output_values(&results);
        for ((row, results), values) in pending.iter().zip(results).zip(values) {
            out.push(Row {
                table: self.table,
                window: row.window,
                group: results[..self.group_types.len()].to_vec(),
                values,
                is_final: row.is_final,
                deleted: false,
            });
        }
    }

    /// The row that says that (key, window) is gone.
    pub(super) fn deleted(&self, key: &[u8], window: Option<(Millis, Millis)>) -> Row {
        let group = self.group_values(key);
        Row { table: self.table, window, group, values: Vec::new(), is_final: false, deleted: true }
    }

    fn group_values(&self, key: &[u8]) -> Vec<Value> {
        let mut reader = Reader::new(key);
        let value = |_| reader.value().expect("group keys are written by this crate and checked when they arrive");
        self.group_types.iter().map(value).collect()
    }

    fn result_values(&self, accumulators: &Accumulators, row: &Pending) -> Vec<Value> {
        let mut values = self.group_values(&row.key);
        match self.funnel_steps {
            None => accumulators.results(row.group, &mut values),
            Some(steps) => funnel_results(accumulators, row.group, steps, &mut values),
        }
        values
    }

    fn output_values(&mut self, results: &[Vec<Value>]) -> Vec<Vec<Value>> {
        self.fill_columns(results);
        let mut rows: Vec<Vec<Value>> = vec![Vec::with_capacity(self.outputs.len()); results.len()];
        for output in &mut self.outputs {
            match output {
                Output::Plain(column) => {
                    rows.iter_mut().zip(results).for_each(|(row, result)| row.push(result[*column].clone()));
                }
                Output::Program(program) => {
                    let column = program.eval(&self.columns, results.len(), &mut self.arena);
                    for (at, row) in rows.iter_mut().enumerate() {
                        row.push(column.value(at, &self.arena));
                    }
                }
            }
        }
        rows
    }

    /// Turns rows of values into columns for the programs; lists become nulls, no expression reads them.
    fn fill_columns(&mut self, results: &[Vec<Value>]) {
        self.arena.clear();
        let types = self.group_types.iter().chain(&self.result_types);
        let scalar = |ty: &Type| if *ty == Type::List { Type::Boolean } else { *ty };
        if self.columns.is_empty() {
            self.columns = types.clone().map(|ty| Column::new(scalar(ty))).collect();
        }
        for (at, (column, ty)) in self.columns.iter_mut().zip(types).enumerate() {
            column.clear();
            for row in results {
                let value = if *ty == Type::List { &Value::Null } else { &row[at] };
                column.push_value(value, &mut self.arena);
            }
        }
    }
}

/// Steps, conversion, mean seconds to convert.
fn funnel_results(accumulators: &Accumulators, group: u32, steps: usize, out: &mut Vec<Value>) {
    let count = |state: usize| accumulators.count(state, group);
    out.extend((0..steps).map(|step| Value::Integer(count(step))));
    let decimal = |value: Option<Decimal>| value.map_or(Value::Null, Value::Decimal);
    out.push(decimal(Decimal::from_int(count(steps - 1)).checked_div(Decimal::from_int(count(0)))));
    let seconds = Decimal(accumulators.sum(steps + 1, group).saturating_mul(crate::decimal::ONE / 1_000));
    out.push(decimal(seconds.checked_div(Decimal::from_int(count(steps)))));
}
