//! What names mean in an expression.

use engine::{
    expr::{ColumnId, Expr},
    plan::{AggregatePlan, ColumnPlan},
    value::Type,
};

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// This value.
    Expr(Expr),
    /// A value of unknown type, read as a decimal where a number is wanted (columns of undeclared lookups).
    Flexible(Expr),
    /// Nothing; the names that exist.
    Unknown(Vec<String>),
    /// Something that is wrong by itself, in words.
    Wrong(String),
    /// Something that is wrong and was told elsewhere.
    Silent,
}

/// The names that an expression may use.
pub(crate) trait Names {
    /// Looks up a column; several parts are a qualified name.
    fn column(&mut self, parts: &[&str]) -> Resolved;

    /// What the columns are columns of, for messages.
    fn what(&self) -> String;

    /// Where aggregates read their arguments, if aggregates make sense here.
    fn input(&self) -> Option<Scope> {
        None
    }

    /// Registers an aggregate and returns the column that will hold its result.
    fn aggregate(&mut self, _: AggregatePlan) -> Expr {
        unreachable!("only called where `input` returns something")
    }

    /// Registers `zscore(column, windows)`, if that makes sense here, and returns the column that will hold it.
    fn zscore(&mut self, _column: &str, _windows: u32) -> Option<Resolved> {
        None
    }
}

/// A flat list of columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// What it is, for messages: `stream clicks`.
    pub what: String,
    /// The columns.
    pub columns: Vec<ScopeColumn>,
    /// Lookups whose columns are not all declared: `products.price` is there, as text that may hold a number.
    pub open: Vec<String>,
    /// Some columns are missing because they are wrong; unknown names are then not told.
    pub incomplete: bool,
}

/// A column of a scope.
#[derive(Clone, Debug)]
pub(crate) struct ScopeColumn {
    /// Its name.
    pub name: String,
    /// Another name, with a dot.
    pub qualified: Option<String>,
    /// Its place.
    pub id: ColumnId,
    /// Its type, unless that could not be told.
    pub ty: Option<Type>,
    /// A string that may hold a number; see [`Resolved::Flexible`].
    pub flexible: bool,
}

impl Scope {
    /// Makes a scope of columns in their order.
    pub fn of(columns: &[ColumnPlan]) -> Self {
        let columns = columns.iter().enumerate().map(|(id, column)| ScopeColumn {
            name: column.name.clone(),
            qualified: None,
            id,
            ty: Some(column.ty),
            flexible: false,
        });
        Self { columns: columns.collect(), ..Self::default() }
    }

    /// Adds a column behind the others.
    pub fn push(&mut self, name: &str, ty: Option<Type>) {
        let id = self.columns.len();
        self.columns.push(ScopeColumn { name: name.to_owned(), qualified: None, id, ty, flexible: false });
    }

    /// Returns the column of that name.
    pub fn get(&self, name: &str) -> Option<&ScopeColumn> {
        let by_name = self.columns.iter().find(|column| column.name == name);
        by_name.or_else(|| self.columns.iter().find(|column| column.qualified.as_deref() == Some(name)))
    }

    /// The names of all columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }
}

impl Names for Scope {
    fn column(&mut self, parts: &[&str]) -> Resolved {
        match self.get(&parts.join(".")) {
            Some(ScopeColumn { id, ty: Some(ty), flexible, .. }) => match flexible {
                true => Resolved::Flexible(Expr::Column(*id, *ty)),
                false => Resolved::Expr(Expr::Column(*id, *ty)),
            },
            Some(_) => Resolved::Silent,
            None if parts.len() == 2 && self.open.iter().any(|open| open == parts[0]) => {
                // Only checked, never evaluated: the program that reads the lookup knows its columns.
                Resolved::Flexible(Expr::Column(self.columns.len(), Type::String))
            }
            None if self.incomplete => Resolved::Silent,
            None => Resolved::Unknown(self.names().map(str::to_owned).collect()),
        }
    }

    fn what(&self) -> String {
        self.what.clone()
    }
}
