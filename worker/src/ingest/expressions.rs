//! Expressions of ingesters over columns: routes, cases and computed fields.

use engine::{
    column::{Column, Data},
    expr::{ColumnId, Expr},
    kernel::Program,
    plan::ColumnPlan,
    value::Type,
};

/// An expression that is ready to be evaluated, a batch at a time.
#[derive(Debug)]
pub struct Expression {
    expr: Expr,
    program: Program,
}

impl Expression {
    /// Reads and compiles `text` over `columns`.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(text: &str, columns: &[ColumnPlan]) -> Result<Self, String> {
        crds::expression::parse(text, columns).map(Self::new).map_err(|problems| {
            let told =
                problems.iter().map(|problem| format!("{} at character {}", problem.message, problem.offset + 1));
            format!("`{text}`: {}", told.collect::<Vec<_>>().join("; "))
        })
    }

    /// Its type.
    #[must_use]
    pub fn type_of(&self) -> Type {
        self.expr.type_of()
    }

    /// Compiles `expr`.
    #[must_use]
    pub fn new(expr: Expr) -> Self {
        Self { program: Program::compile(&expr), expr }
    }

    /// Calls `visit` with every column that is read.
    pub fn reads(&self, visit: &mut impl FnMut(ColumnId)) {
        self.expr.columns(visit);
    }

    /// Appends the value of each of `rows` rows to `out`.
    pub fn evaluate(&mut self, columns: &[Column], rows: usize, arena: &mut Vec<u8>, out: &mut Column) {
        let result = self.program.eval(columns, rows, arena);
        out.valid.extend_from_slice(&result.valid);
        match (&result.data, &mut out.data) {
            (Data::Boolean(values), Data::Boolean(out)) => out.extend_from_slice(values),
            (Data::Integer(values), Data::Integer(out)) => out.extend_from_slice(values),
            (Data::Decimal(values), Data::Decimal(out)) => out.extend_from_slice(values),
            (Data::String(values), Data::String(out)) => out.extend_from_slice(values),
            (Data::Timestamp(values), Data::Timestamp(out)) => out.extend_from_slice(values),
            _ => unreachable!("bug: an expression is not of its type"),
        }
    }

    /// Returns the rows for which it is true.
    pub fn holds<'a>(&'a mut self, columns: &'a [Column], rows: usize, arena: &mut Vec<u8>) -> &'a [bool] {
        self.program.eval_mask(columns, rows, arena)
    }
}
