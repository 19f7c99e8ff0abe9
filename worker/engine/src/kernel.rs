//! Expressions, a batch at a time: a tree of closed kernels over columns.
//!
//! Every node that computes owns the column of its result and fills it again for each batch, so that nothing is
//! allocated once warm; a plain column reference is not copied. Nulls and overflow as in [`crate::expr`].

mod arithmetic;
mod choice;
mod compare;
mod convert;
mod text;
mod times;
#[cfg(test)]
mod tests;

use crate::{
    column::{Column, Data, append},
    expr::{Arithmetic, ColumnId, Compare, Expr, Function, Logic},
    value::{Type, Value},
};

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: Node,
    mask: Vec<bool>,
}

impl Program {
    /// Compiles a typed expression.
    #[must_use]
    pub fn compile(expr: &Expr) -> Self {
        Self { root: Node::compile(expr), mask: Vec::new() }
    }

    /// Evaluates over `rows` rows; every column has that many. Strings that are made go to `arena`.
    pub fn eval<'a>(&'a mut self, columns: &'a [Column], rows: usize, arena: &mut Vec<u8>) -> &'a Column {
        self.root.eval(columns, rows, arena)
    }

    /// Evaluates a boolean expression to a mask: true only where the result is true, not null.
    ///
    /// # Panics
    /// If the expression is not boolean: plans are checked.
    pub fn eval_mask<'a>(&'a mut self, columns: &'a [Column], rows: usize, arena: &mut Vec<u8>) -> &'a [bool] {
        let column = self.root.eval(columns, rows, arena);
        let Data::Boolean(values) = &column.data else { unreachable!("bug: a mask of {:?}", column.type_of()) };
        self.mask.clear();
        self.mask.extend(values.iter().zip(&column.valid).map(|(value, valid)| *value && *valid));
        &self.mask
    }
}

/// A node and the column of its result.
#[derive(Debug)]
struct Node {
    kernel: Kernel,
    args: Vec<Node>,
    out: Column,
}

#[derive(Debug)]
enum Kernel {
    Column(ColumnId),
    Literal(Value),
    Not,
    Negate,
    IsNull,
    Logic(Logic),
    Compare(Compare),
    /// With a constant that is not null on the right.
    CompareLiteral(Compare, Value),
    Arithmetic(Arithmetic),
    In(Vec<Value>),
    Like(text::Pattern),
    /// Arguments: when, then, when, then, …, otherwise.
    Case,
    Coalesce,
    Cast(Type),
    Call(Function),
}

impl Node {
    fn compile(expr: &Expr) -> Self {
        let all = |args: &[Expr]| args.iter().map(Self::compile).collect();
        let (kernel, args): (Kernel, Vec<Self>) = match expr {
            Expr::Column(id, _) => (Kernel::Column(*id), Vec::new()),
            Expr::Literal(value, _) => (Kernel::Literal(value.clone()), Vec::new()),
            Expr::Not(arg) => (Kernel::Not, vec![Self::compile(arg)]),
            Expr::Negate(arg) => (Kernel::Negate, vec![Self::compile(arg)]),
            Expr::IsNull(arg) => (Kernel::IsNull, vec![Self::compile(arg)]),
            Expr::Logic(logic, left, right) => (Kernel::Logic(*logic), vec![Self::compile(left), Self::compile(right)]),
            Expr::Compare(compare, left, right) => match &**right {
                Expr::Literal(value, _) if *value != Value::Null => {
                    (Kernel::CompareLiteral(*compare, value.clone()), vec![Self::compile(left)])
                }
                right => (Kernel::Compare(*compare), vec![Self::compile(left), Self::compile(right)]),
            },
            Expr::Arithmetic(op, left, right) => {
                (Kernel::Arithmetic(*op), vec![Self::compile(left), Self::compile(right)])
            }
            Expr::In(arg, values) => (Kernel::In(values.clone()), vec![Self::compile(arg)]),
            Expr::Like(arg, pattern) => (Kernel::Like(text::Pattern::new(pattern)), vec![Self::compile(arg)]),
            Expr::Case { branches, otherwise } => {
                let pairs = branches.iter().flat_map(|(when, then)| [when, then]);
                (Kernel::Case, pairs.chain([&**otherwise]).map(Self::compile).collect())
            }
            Expr::Coalesce(args) => (Kernel::Coalesce, all(args)),
            Expr::Cast(arg, ty) => (Kernel::Cast(*ty), vec![Self::compile(arg)]),
            Expr::Call(function, args) => (Kernel::Call(*function), all(args)),
        };
        // A list is only ever a plain column, which has no result of its own.
        let ty = Some(expr.type_of()).filter(|ty| *ty != Type::List).unwrap_or(Type::Boolean);
        Self { kernel, args, out: Column::new(ty) }
    }

    fn eval<'a>(&'a mut self, columns: &'a [Column], rows: usize, arena: &mut Vec<u8>) -> &'a Column {
        if let Kernel::Column(id) = self.kernel {
            return &columns[id];
        }
        let Self { kernel, args, out } = self;
        if let Kernel::Literal(value) = kernel {
            fill(out, value, rows, arena);
            return out;
        }
        out.clear();
        let inputs: Inputs<'_> = args.iter_mut().map(|arg| arg.eval(columns, rows, arena)).collect();
        compute(kernel, &inputs, rows, arena, out);
        out
    }
}

/// The evaluated arguments of a node: a short list made once a batch.
type Inputs<'a> = Vec<&'a Column>;

fn compute(kernel: &Kernel, inputs: &[&Column], rows: usize, arena: &mut Vec<u8>, out: &mut Column) {
    match kernel {
        Kernel::Column(_) | Kernel::Literal(_) => unreachable!("bug: answered by the caller"),
        Kernel::Not => {
            out.valid.extend_from_slice(&inputs[0].valid);
            booleans(out).extend(as_booleans(inputs[0]).iter().map(|value| !value));
        }
        Kernel::Negate => arithmetic::negate(inputs[0], out),
        Kernel::IsNull => {
            out.valid.resize(rows, true);
            booleans(out).extend(inputs[0].valid.iter().map(|valid| !valid));
        }
        Kernel::Logic(logic) => choice::logic(*logic, inputs[0], inputs[1], out),
        Kernel::Compare(op) => compare::columns(*op, inputs[0], inputs[1], arena, out),
        Kernel::CompareLiteral(op, value) => compare::literal(*op, inputs[0], value, arena, out),
        Kernel::Arithmetic(op) => arithmetic::binary(*op, inputs[0], inputs[1], out),
        Kernel::In(values) => compare::in_list(inputs[0], values, arena, out),
        Kernel::Like(pattern) => text::like(inputs[0], pattern, arena, out),
        Kernel::Case => choice::case(inputs, rows, out),
        Kernel::Coalesce => choice::coalesce(inputs, rows, out),
        Kernel::Cast(ty) => convert::cast(inputs[0], *ty, arena, out),
        Kernel::Call(function) => call(*function, inputs, rows, arena, out),
    }
}

fn call(function: Function, inputs: &[&Column], rows: usize, arena: &mut Vec<u8>, out: &mut Column) {
    match function {
        Function::Abs => arithmetic::absolute(inputs[0], out),
        Function::Round => arithmetic::round(inputs[0], inputs[1], out),
        Function::Floor => arithmetic::to_integer(inputs[0], out, i128::div_euclid),
        Function::Ceil => arithmetic::to_integer(inputs[0], out, |value, one| -((-value).div_euclid(one))),
        Function::Least => choice::extreme(inputs, rows, arena, out, std::cmp::Ordering::Less),
        Function::Greatest => choice::extreme(inputs, rows, arena, out, std::cmp::Ordering::Greater),
        Function::NullIf => choice::null_if(inputs, rows, arena, out),
        Function::Extract(unit) => times::extract(inputs[0], unit, out),
        Function::DateTrunc(unit) => times::truncate(inputs[0], unit, out),
        Function::SecondsBetween => times::seconds_between(inputs[0], inputs[1], out),
        _ => text::call(function, inputs, rows, arena, out),
    }
}

/// Fills `out` with a constant: text lies in the arena once.
fn fill(out: &mut Column, value: &Value, rows: usize, arena: &mut Vec<u8>) {
    out.clear();
    out.valid.resize(rows, *value != Value::Null);
    match (&mut out.data, value) {
        (Data::Boolean(values), Value::Boolean(value)) => values.resize(rows, *value),
        (Data::Integer(values), Value::Integer(value)) => values.resize(rows, *value),
        (Data::Decimal(values), Value::Decimal(value)) => values.resize(rows, *value),
        (Data::Timestamp(values), Value::Timestamp(value)) => values.resize(rows, *value),
        (Data::String(values), Value::String(text)) => values.resize(rows, append(text.as_bytes(), arena)),
        (_, Value::Null) => {
            out.valid.clear();
            (0..rows).for_each(|_| out.push_null());
        }
        (data, value) => unreachable!("bug: {value:?} in a column of {data:?}"),
    }
}

fn booleans(column: &mut Column) -> &mut Vec<bool> {
    match &mut column.data {
        Data::Boolean(values) => values,
        data => unreachable!("bug: {data:?} where booleans were planned"),
    }
}

fn as_booleans(column: &Column) -> &[bool] {
    match &column.data {
        Data::Boolean(values) => values,
        data => unreachable!("bug: {data:?} where booleans were planned"),
    }
}

/// Valid where both are.
fn both_valid(left: &Column, right: &Column, out: &mut Column) {
    out.valid.extend(left.valid.iter().zip(&right.valid).map(|(left, right)| *left && *right));
}

/// Appends row `row` of `from`, which has the same type.
fn push_from(out: &mut Column, from: &Column, row: usize) {
    match (&mut out.data, &from.data) {
        (Data::Boolean(out), Data::Boolean(from)) => out.push(from[row]),
        (Data::Integer(out), Data::Integer(from)) | (Data::Timestamp(out), Data::Timestamp(from)) => {
            out.push(from[row])
        }
        (Data::Decimal(out), Data::Decimal(from)) => out.push(from[row]),
        (Data::String(out), Data::String(from)) => out.push(from[row]),
        (out, from) => unreachable!("bug: {from:?} into {out:?}"),
    }
    out.valid.push(from.valid[row]);
}
