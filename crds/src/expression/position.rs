//! Places inside the text of an expression.

use sqlparser::{
    ast::{self, Spanned},
    parser::ParserError,
    tokenizer::Location,
};

use super::ExpressionProblem;

/// The offset of a location, in characters.
pub(super) fn offset(text: &str, at: Location) -> u32 {
    let lines = text.split_inclusive('\n').take(usize::try_from(at.line.saturating_sub(1)).unwrap_or(0));
    let before: usize = lines.map(|line| line.chars().count()).sum();
    let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(0);
    u32::try_from((before + column).min(text.chars().count())).unwrap_or(0)
}

/// The offset at which `expr` begins. It goes down the left side, because a long chain of operators is deep.
pub(super) fn start(text: &str, expr: &ast::Expr) -> u32 {
    use ast::Expr as E;
    let mut at = expr;
    loop {
        at = match at {
            E::BinaryOp { left, .. } => left,
            E::IsNull(inner) | E::IsNotNull(inner) | E::IsTrue(inner) | E::IsNotTrue(inner) => inner,
            E::IsFalse(inner) | E::IsNotFalse(inner) | E::Nested(inner) => inner,
            E::Between { expr, .. } | E::InList { expr, .. } | E::Like { expr, .. } | E::ILike { expr, .. } => expr,
            E::Cast { expr, .. } | E::UnaryOp { expr, .. } | E::Extract { expr, .. } => expr,
            leaf => return offset(text, leaf.span().start),
        };
    }
}

/// What the parser said, with the place that it wrote into its message.
pub(super) fn of_error(text: &str, error: &ParserError) -> ExpressionProblem {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => "nested too deep",
    };
    let (words, at) = match message.split_once(" at Line: ") {
        Some((words, place)) => (words, location(place)),
        None => (message, None),
    };
    let end = u32::try_from(text.trim_end().chars().count()).unwrap_or(0);
    let otherwise = if words.ends_with("EOF") { end } else { 0 };
    let words = words.strip_prefix("sql parser error: ").unwrap_or(words);
    let words = words.replace("Expected: an expression", "an expression is expected").replace("EOF", "the end");
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_lowercase().collect::<String>()).unwrap_or_default();
    ExpressionProblem {
        offset: at.map_or(otherwise, |at| offset(text, at)),
        message: format!("not an expression: {first}{}", chars.as_str()),
        ..ExpressionProblem::default()
    }
}

/// Reads `1, Column: 5`.
fn location(text: &str) -> Option<Location> {
    let (line, column) = text.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some(Location { line: line.parse().ok()?, column: digits.parse().ok()? })
}
