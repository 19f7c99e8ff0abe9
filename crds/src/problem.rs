//! A user's mistake, told so that it can be put right: where, what was found, what would be accepted.

use std::fmt;

/// One mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from one.
    pub line: Option<u32>,
    /// Column in the line, from one, in characters.
    pub column: Option<u32>,
    /// The field: `spec.tables[category_sales].select.total_sales`.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What is wrong with it.
    pub message: String,
    /// What would be accepted.
    pub accepted: Option<String>,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{line}:{column}: {}", self.path)?,
            _ => write!(f, "{}", self.path)?,
        }
        write!(f, ": {}", self.message)?;
        if !self.found.is_empty() {
            write!(f, "\n    found: {}", self.found)?;
        }
        if let Some(accepted) = &self.accepted {
            write!(f, "\n    accepted: {accepted}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n    did you mean {suggestion}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
