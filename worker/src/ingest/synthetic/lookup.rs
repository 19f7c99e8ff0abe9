//! Rows of a lookup, for generators that draw from it.

use std::{collections::BTreeMap, io::Read, path::Path};

use engine::{
    column::Column,
    decimal::Decimal,
    value::{Type, Value},
};
use serde_json::Value as Json;

use crate::ingest::dataset::{
    DatasetError,
    block::{Block, BlockReader, Place},
    csv::CsvSplitter,
    files, header,
    splitter::{ArrayState, Splitter},
};

/// A lookup: its keys and the values of every other column, by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The keys, in the order of the file.
    pub keys: Vec<Value>,
    /// Columns by name.
    pub columns: BTreeMap<String, (Type, Vec<Value>)>,
}

impl Rows {
    /// Reads the file of a lookup: CSV by its ending, else JSON. `types` says the types of columns that the manifest
    /// names; a column of numbers is a decimal, everything else a text.
    ///
    /// # Errors
    /// Where the file cannot be read, or a row has no key.
    pub fn read(base: &Path, file: &str, key: &str, types: &[(String, Type)]) -> Result<Self, DatasetError> {
        let found = files::list(base, file, &[])?.remove(0);
        let csv = file.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(".csv");
        let open = || files::open(&found, std::sync::Arc::default());
        let (splitter, place) = if csv {
            let (names, place) = header::read(file, b',', &mut open()?)?;
            let columns = header::columns(file, &names, &[], &[])?;
            (Splitter::Csv(Box::new(CsvSplitter::new(file, b',', columns))), place)
        } else {
            (Splitter::Array(ArrayState::Start), Place::START)
        };
        let mut input = open()?;
        std::io::copy(&mut (&mut input).take(place.byte), &mut std::io::sink())
            .map_err(|source| DatasetError::Open { file: file.into(), source })?;
        let mut reader = BlockReader::new(file, input, splitter, place);
        let (mut objects, mut block) = (Vec::new(), Block::default());
        loop {
            reader.next(&mut block)?;
            if block.rows.is_empty() {
                return Self::of(file, key, types, &objects);
            }
            for row in &block.rows {
                let object = serde_json::from_slice::<BTreeMap<String, Json>>(block.payload(row));
                let wrong = |error: serde_json::Error| DatasetError::Row {
                    file: file.into(),
                    line: row.line_after,
                    message: format!("not a row of a lookup: {error}"),
                };
                objects.push(object.map_err(wrong)?);
            }
        }
    }

    fn of(
        file: &str,
        key: &str,
        types: &[(String, Type)],
        rows: &[BTreeMap<String, Json>],
    ) -> Result<Self, DatasetError> {
        let wrong = |message: String| DatasetError::Row { file: file.into(), line: 1, message };
        if rows.is_empty() {
            return Err(wrong("the lookup has no row".into()));
        }
        let mut lookup = Self::default();
        for (at, row) in rows.iter().enumerate() {
            match row.get(key) {
                Some(Json::String(text)) => lookup.keys.push(Value::String(text.as_str().into())),
                Some(Json::Number(number)) => lookup.keys.push(Value::String(number.to_string().into())),
                _ => return Err(wrong(format!("row {} has no key {key:?}", at + 1))),
            }
        }
        let names: std::collections::BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
        for name in names {
            let values = || rows.iter().map(|row| row.get(name).unwrap_or(&Json::Null));
            let numbers = values().all(|value| value.is_number() || value.is_null());
            let inferred = if numbers { Type::Decimal } else { Type::String };
            let ty = types.iter().find(|(known, _)| known == name).map_or(inferred, |(_, ty)| *ty);
            lookup.columns.insert(name.clone(), (ty, values().map(|value| typed(value, ty)).collect()));
        }
        Ok(lookup)
    }
}

/// Makes a column of constants.
#[must_use]
pub fn column(ty: Type, values: &[Value], constants: &mut Vec<u8>) -> Column {
    let mut column = Column::new(ty);
    values.iter().for_each(|value| column.push_value(value, constants));
    column
}

/// Reads a JSON value as of a type; what is not becomes null.
#[must_use]
pub fn typed(value: &Json, ty: Type) -> Value {
    let text = || match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        _ => None,
    };
    let read = match ty {
        Type::Boolean => value.as_bool().map(Value::Boolean),
        Type::Integer => text().and_then(|text| text.parse().ok()).map(Value::Integer),
        Type::Decimal => text().and_then(|text| Decimal::parse(text.as_bytes())).map(Value::Decimal),
        Type::String => text().map(|text| Value::String(text.into())),
        Type::Timestamp => {
            serde_json::to_vec(value).ok().and_then(|bytes| crate::ingest::dataset::time(&bytes)).map(Value::Timestamp)
        }
        Type::List => None,
    };
    read.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_json_and_csv() {
        let base = tempfile::tempdir().unwrap();
        let files = [
            ("a.json", r#"[{"id":"p1","price":9.5,"name":"x"},{"id":"p2","price":10,"name":null}]"#),
            ("a.jsonl", "{\"id\":\"p1\",\"price\":9.5,\"name\":\"x\"}\n{\"id\":\"p2\",\"price\":10}\n"),
        ];
        for (name, text) in files {
            std::fs::write(base.path().join(name), text).unwrap();
            let rows = Rows::read(base.path(), name, "id", &[]).unwrap();
            assert_eq!(rows.keys, ["p1", "p2"].map(|key| Value::String(key.into())));
            assert_eq!(rows.columns["price"].0, Type::Decimal);
            assert_eq!(rows.columns["name"].1, [Value::String("x".into()), Value::Null]);
        }
        std::fs::write(base.path().join("a.csv"), "id,price\np1,9.5\n").unwrap();
        let types = [("price".to_owned(), Type::Decimal)];
        let rows = Rows::read(base.path(), "a.csv", "id", &types).unwrap();
        assert_eq!(rows.columns["price"].1, [Value::Decimal(Decimal(9_500_000_000))]);
        std::fs::write(base.path().join("b.json"), "[{\"price\":1}]").unwrap();
        let error = Rows::read(base.path(), "b.json", "id", &[]).unwrap_err().to_string();
        assert_eq!(error, "b.json:1: row 1 has no key \"id\"");
    }
}
