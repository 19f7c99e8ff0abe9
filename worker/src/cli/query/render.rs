//! Rows for people: columns under each other, numbers to the right. Text from events cannot steer the terminal.

use std::fmt::Write as _;

use crate::store::Pairs;

/// Widest column; longer cells are cut.
const CELL_CHARACTERS_MAX: usize = 60;

/// Makes an array of objects, one a line.
pub fn array(lines: &[u8]) -> Vec<u8> {
    let rows: Vec<&[u8]> = rows(lines).collect();
    let mut out = b"[".to_vec();
    for (at, row) in rows.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\n  " } else { b",\n  " });
        out.extend_from_slice(row);
    }
    out.extend_from_slice(if rows.is_empty() { b"]\n" } else { b"\n]\n" });
    out
}

/// Puts the members of the objects under each other. All rows have the members of the first.
pub fn table(lines: &[u8]) -> String {
    let parsed: Vec<Pairs<'_>> = rows(lines).filter_map(|row| serde_json::from_slice(row).ok()).collect();
    let Some(first) = parsed.first() else { return "(no rows)\n".into() };
    let columns: Vec<Column> = (0..first.0.len()).map(|at| Column::new(at, &parsed)).collect();
    let mut out = String::new();
    let mut line = |cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<String> = columns.iter().map(|column| column.pad(&cell(column))).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    };
    line(&|column| column.name.clone());
    line(&|column| "─".repeat(column.width));
    for row in 0..parsed.len() {
        line(&|column| column.cells[row].clone());
    }
    out
}

/// A column as it is printed.
struct Column {
    name: String,
    cells: Vec<String>,
    width: usize,
    is_numeric: bool,
}

impl Column {
    fn new(at: usize, rows: &[Pairs<'_>]) -> Self {
        let name = printable(&rows[0].0[at].0);
        let literals = rows.iter().map(|row| row.0.get(at).map_or("null", |(_, value)| value.get()));
        let is_number = |literal: &str| literal.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let is_numeric =
            literals.clone().all(|literal| literal == "null" || is_number(literal)) && literals.clone().any(is_number);
        let cells: Vec<String> = literals.map(cell).collect();
        let width = cells.iter().chain([&name]).map(|text| text.chars().count()).max().unwrap_or(0);
        Self { name, cells, width, is_numeric }
    }

    fn pad(&self, text: &str) -> String {
        let width = self.width;
        if self.is_numeric { format!("{text:>width$}") } else { format!("{text:<width$}") }
    }
}

/// A JSON literal for people: strings without quotes, everything else as it is.
fn cell(literal: &str) -> String {
    let text = match literal.starts_with('"') {
        true => serde_json::from_str(literal).unwrap_or_else(|_| literal.to_owned()),
        false => literal.to_owned(),
    };
    let text = printable(&text);
    match text.char_indices().nth(CELL_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Control characters by name, so that a product's name cannot clear the screen.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if character.is_control() => {
                write!(out, "{}", character.escape_default()).expect("a string takes all text");
            }
            character => out.push(character),
        }
    }
    out
}

fn rows(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_text_cannot_steer() {
        let lines = br#"{"category":"Home","total":12345678901234567.125,"final":true,"top":[["p",2]]}
{"category":"a\u001b[2Jb","total":null,"final":false,"top":[]}
"#;
        let expected = "\
category                     total  final  top
───────────  ─────────────────────  ─────  ─────────
Home         12345678901234567.125  true   [[\"p\",2]]
a\\u{1b}[2Jb                   null  false  []
";
        assert_eq!(table(lines), expected);
        assert_eq!(table(b""), "(no rows)\n");
    }

    #[test]
    fn an_array_has_a_row_a_line() {
        assert_eq!(array(b"{\"a\":1}\n{\"a\":2}\n"), b"[\n  {\"a\":1},\n  {\"a\":2}\n]\n");
        assert_eq!(array(b""), b"[]\n");
    }
}
