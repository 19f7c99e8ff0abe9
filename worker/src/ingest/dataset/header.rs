//! Which column of a CSV file fills which field.

use std::io::Read;

use csv_core::{ReadRecordResult, ReaderBuilder};
use engine::{plan::FieldPlan, value::Type};

use super::{
    DatasetError,
    block::Place,
    csv::{Columns, Field},
};
use crate::ingest::layout::Layout;

/// A header that does not end within this is none. A thousand columns of sixty letters.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Reads the header of a CSV file and returns its names and the place behind it.
///
/// # Errors
/// Where there is none.
pub fn read(file: &str, delimiter: u8, input: &mut dyn Read) -> Result<(Vec<String>, Place), DatasetError> {
    let wrong = |message: &str| DatasetError::Row { file: file.into(), line: 1, message: message.into() };
    let mut bytes = Vec::new();
    let read = input.take(HEADER_BYTES_MAX as u64).read_to_end(&mut bytes);
    // A file that is cut short may still have its whole header.
    let failed = read.err();
    let (mut fields, mut ends) = (vec![0; bytes.len().max(1)], vec![0; bytes.len() + 1]);
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let (mut result, mut taken, mut fields_len, mut count) = reader.read_record(&bytes, &mut fields, &mut ends);
    if result == ReadRecordResult::InputEmpty && bytes.len() < HEADER_BYTES_MAX && failed.is_none() {
        let more = reader.read_record(&[], &mut fields[fields_len..], &mut ends[count..]);
        (result, taken, fields_len, count) = (more.0, taken + more.1, fields_len + more.2, count + more.3);
    }
    match (result, failed) {
        (ReadRecordResult::Record, _) => {}
        (_, Some(source)) => return Err(DatasetError::Read { file: file.into(), line: 1, source }),
        (ReadRecordResult::End, None) => return Err(wrong("the file is empty; expected a header")),
        _ => return Err(wrong("the first line does not end; expected a header")),
    }
    debug_assert!(fields_len <= fields.len(), "bug: fields are shorter than the file");
    let starts = std::iter::once(0).chain(ends[..count].iter().copied());
    let names =
        starts.zip(&ends[..count]).map(|(start, end)| String::from_utf8_lossy(&fields[start..*end]).trim().to_owned());
    let line = 1 + memchr::memchr_iter(b'\n', &bytes[..taken]).count() as u64;
    Ok((names.collect(), Place { byte: taken as u64, line }))
}

/// Decides what becomes of the columns `names` of `file`: `mapping` names the column of a field, other fields take
/// the column of their own name, and columns that no field takes keep theirs, as texts, because the raw topic is
/// also for what is asked tomorrow.
///
/// # Errors
/// Where a mapped column or that of a required field is not there, or there twice.
pub fn columns(
    file: &str,
    names: &[String],
    mapping: &[(String, String)],
    fields: &[FieldPlan],
) -> Result<Columns, DatasetError> {
    let wrong = |message: String| DatasetError::Row { file: file.into(), line: 1, message };
    let mut paths = Vec::new();
    let mut used = vec![false; names.len()];
    let mapped = |field: &str| mapping.iter().find(|(name, _)| name == field).map(|(_, column)| column.as_str());
    let others = mapping.iter().filter(|(name, _)| !fields.iter().any(|field| field.name == *name));
    let others = others.map(|(name, column)| (vec![name.clone()], column.as_str(), Type::String, true));
    let own = fields.iter().map(|field| {
        let column = mapped(&field.name);
        let needed = column.is_some() || field.required;
        (field.path.clone(), column.unwrap_or(&field.name), field.ty, needed)
    });
    for (path, column, ty, needed) in own.chain(others) {
        match names.iter().filter(|name| *name == column).count() {
            0 if needed => return Err(wrong(missing(column, names))),
            0 => {}
            1 => {
                let at = names.iter().position(|name| name == column).expect("it was just counted");
                used[at] = true;
                paths.push((path, Field { column: at, ty }));
            }
            _ => return Err(wrong(format!("the header names column {column:?} twice"))),
        }
    }
    for (at, name) in names.iter().enumerate().filter(|(at, name)| !used[*at] && !name.is_empty()) {
        paths.push((vec![name.clone()], Field { column: at, ty: Type::String }));
    }
    Ok(Columns { count: names.len(), layout: Layout::new(paths) })
}

fn missing(column: &str, names: &[String]) -> String {
    let has = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    format!(
        "the header has no column {column:?}; it has {has} (is the header missing? `columns` maps field names to the header's)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(path: &[&str], ty: Type, required: bool) -> FieldPlan {
        let path: Vec<String> = path.iter().map(|part| (*part).into()).collect();
        FieldPlan { name: path.join("."), path, ty, required, hashed: false }
    }

    fn shape(header: &str, mapping: &[(&str, &str)], fields: &[FieldPlan]) -> Result<String, String> {
        let (names, _) = read("x.csv", b',', &mut header.as_bytes()).map_err(|error| error.to_string())?;
        let mapping: Vec<_> = mapping.iter().map(|(field, column)| ((*field).into(), (*column).into())).collect();
        let columns = columns("x.csv", &names, &mapping, fields).map_err(|error| error.to_string())?;
        let mut text = String::new();
        for member in &columns.layout.members {
            text += &format!("{}<{}>", String::from_utf8_lossy(&member.before), member.source.column);
        }
        Ok(text + &String::from_utf8_lossy(&columns.layout.close))
    }

    #[test]
    fn fields_find_their_columns() {
        let fields = [field(&["user_id"], Type::String, true), field(&["price"], Type::Decimal, false)];
        let check = |header: &str, mapping: &[(&str, &str)], expected: &str| {
            assert_eq!(shape(header, mapping, &fields).unwrap(), expected);
        };
        check("user_id,price\n", &[], r#"{"user_id":<0>,"price":<1>}"#);
        check("\u{feff}price , user_id\r\n1,2", &[], r#"{"user_id":<1>,"price":<0>}"#);
        check("User ID,\"Other, thing\"", &[("user_id", "User ID")], r#"{"user_id":<0>,"Other, thing":<1>}"#);
        check("user_id,note", &[("text", "note")], r#"{"user_id":<0>,"text":<1>}"#);
        let nested = [field(&["user", "id"], Type::String, true), field(&["user", "age"], Type::Integer, true)];
        let shaped = shape("user.age,x,user.id", &[], &nested).unwrap();
        assert_eq!(shaped, r#"{"user":{"id":<2>,"age":<0>},"x":<1>}"#);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let fields = [field(&["user_id"], Type::String, true)];
        let check = |header: &str, mapping: &[(&str, &str)], part: &str| {
            let error = shape(header, mapping, &fields).unwrap_err();
            assert!(error.starts_with("x.csv:1: ") && error.contains(part), "{error}");
        };
        check("", &[], "empty");
        check("\n\n", &[], "empty");
        check("u1,17.50,view\n", &[], "no column \"user_id\"; it has \"u1\", \"17.50\", \"view\"");
        check("user_id", &[("user_id", "User")], "no column \"User\"");
        check("user_id,user_id", &[], "twice");
    }
}
