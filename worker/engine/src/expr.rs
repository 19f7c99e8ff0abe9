//! Expressions after parsing and type checking: a closed tree without names, positions or coercions.
//!
//! `crds` makes these from SQL text; [`crate::kernel`] evaluates them a batch at a time. The tree is strictly
//! typed: both sides of an arithmetic or comparison node have the same type, every conversion is a
//! [`Expr::Cast`] node. Nulls follow SQL: an operator with a null operand gives null, `and`/`or` are
//! three-valued, `/` and `%` by zero give null, overflow gives null.

use crate::value::{Type, Value};

/// The place of a column in its batch or row.
pub type ColumnId = usize;

/// A typed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A column of the input.
    Column(ColumnId, Type),
    /// A constant; a null constant carries its type.
    Literal(Value, Type),
    /// `not x`.
    Not(Box<Expr>),
    /// `-x` over an integer or decimal.
    Negate(Box<Expr>),
    /// `x is null`.
    IsNull(Box<Expr>),
    /// `x and y`, `x or y`.
    Logic(Logic, Box<Expr>, Box<Expr>),
    /// Comparison of two operands of one type.
    Compare(Compare, Box<Expr>, Box<Expr>),
    /// Arithmetic on two integers or two decimals. Division is always of decimals.
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// `x in (constants)`, all of the type of `x`, none null.
    In(Box<Expr>, Vec<Value>),
    /// `x like pattern` with `%` and `_`.
    Like(Box<Expr>, Box<str>),
    /// `case when … then … else … end`. Branches and `otherwise` have one type.
    Case {
        /// Conditions and results, in order.
        branches: Vec<(Expr, Expr)>,
        /// The result where no condition holds.
        otherwise: Box<Expr>,
    },
    /// The first that is not null; all of one type.
    Coalesce(Vec<Expr>),
    /// Conversion to a type; what cannot be converted is null.
    Cast(Box<Expr>, Type),
    /// A function of the closed list.
    Call(Function, Vec<Expr>),
}

/// Three-valued logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Conjunction.
    And,
    /// Disjunction.
    Or,
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Arithmetic operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, of decimals, rounded half to even at nine digits.
    Divide,
    /// `%`
    Remainder,
}

/// Scalar functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `abs(number)`.
    Abs,
    /// `round(decimal, digits)`: digits is an integer constant; half to even.
    Round,
    /// `floor(decimal)` → integer.
    Floor,
    /// `ceil(decimal)` → integer.
    Ceil,
    /// `least(a, b, …)` of one type; nulls are skipped.
    Least,
    /// `greatest(a, b, …)` of one type; nulls are skipped.
    Greatest,
    /// `nullif(a, b)`: null where they are equal.
    NullIf,
    /// `lower(string)`, by Unicode.
    Lower,
    /// `upper(string)`, by Unicode.
    Upper,
    /// `trim(string)`.
    Trim,
    /// `length(string)` in characters.
    Length,
    /// `concat(a, …)` of strings; nulls are skipped. `||` lowers to a null-propagating case around it.
    Concat,
    /// `substring(string, from, count)`: characters, one-based.
    Substring,
    /// `starts_with(string, prefix)`.
    StartsWith,
    /// `ends_with(string, suffix)`.
    EndsWith,
    /// `contains(string, part)`.
    Contains,
    /// `split_part(string, separator, n)`, one-based; null past the end.
    SplitPart,
    /// `extract(hour from t)` and the like; the unit is in [`Function::Extract`].
    Extract(TimeUnit),
    /// `date_trunc('minute', t)`.
    DateTrunc(TimeUnit),
    /// Seconds from the second argument to the first, as a decimal: what `a - b` of timestamps lowers to.
    SecondsBetween,
}

/// Units of time for `extract` and `date_trunc`, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds of the minute.
    Second,
    /// Minutes of the hour.
    Minute,
    /// Hours of the day.
    Hour,
    /// Days of the month.
    Day,
    /// Days of the week, Sunday is 0.
    DayOfWeek,
    /// Months of the year.
    Month,
    /// Years.
    Year,
}

impl Expr {
    /// Returns the type of the result.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match self {
            Self::Column(_, ty) | Self::Literal(_, ty) | Self::Cast(_, ty) => *ty,
            Self::Not(_) | Self::IsNull(_) | Self::Logic(..) | Self::Compare(..) | Self::In(..) | Self::Like(..) => {
                Type::Boolean
            }
            Self::Negate(arg) => arg.type_of(),
            Self::Arithmetic(_, left, _) => left.type_of(),
            Self::Case { otherwise, .. } => otherwise.type_of(),
            Self::Coalesce(args) => args[0].type_of(),
            Self::Call(function, args) => function.type_of(args),
        }
    }

    /// Calls `visit` with every column that is read.
    pub fn columns(&self, visit: &mut impl FnMut(ColumnId)) {
        match self {
            Self::Column(id, _) => visit(*id),
            Self::Literal(..) => {}
            Self::Not(arg)
            | Self::Negate(arg)
            | Self::IsNull(arg)
            | Self::In(arg, _)
            | Self::Like(arg, _)
            | Self::Cast(arg, _) => arg.columns(visit),
            Self::Logic(_, left, right) | Self::Compare(_, left, right) | Self::Arithmetic(_, left, right) => {
                left.columns(visit);
                right.columns(visit);
            }
            Self::Case { branches, otherwise } => {
                for (when, then) in branches {
                    when.columns(visit);
                    then.columns(visit);
                }
                otherwise.columns(visit);
            }
            Self::Coalesce(args) | Self::Call(_, args) => args.iter().for_each(|arg| arg.columns(visit)),
        }
    }
}

impl Function {
    fn type_of(self, args: &[Expr]) -> Type {
        match self {
            Self::Abs | Self::Least | Self::Greatest | Self::NullIf => args[0].type_of(),
            Self::Round | Self::SecondsBetween => Type::Decimal,
            Self::Floor | Self::Ceil | Self::Length | Self::Extract(_) => Type::Integer,
            Self::Lower | Self::Upper | Self::Trim | Self::Concat | Self::Substring | Self::SplitPart => Type::String,
            Self::StartsWith | Self::EndsWith | Self::Contains => Type::Boolean,
            Self::DateTrunc(_) => Type::Timestamp,
        }
    }
}
