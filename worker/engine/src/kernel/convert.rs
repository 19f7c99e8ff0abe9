//! Casts. What cannot be converted is null.

use crate::{
    column::{Column, Data, append},
    decimal::{Decimal, ONE},
    decode::timestamp,
    value::{Type, Value},
};

pub(super) fn cast(input: &Column, ty: Type, arena: &mut Vec<u8>, out: &mut Column) {
    if let (Data::Integer(values), Data::Decimal(results)) = (&input.data, &mut out.data) {
        // The one that plans insert by themselves: always possible.
        out.valid.extend_from_slice(&input.valid);
        results.extend(values.iter().map(|value| Decimal::from_int(*value)));
        return;
    }
    for row in 0..input.len() {
        let value = convert(input.value(row, arena), ty);
        match value {
            Value::String(text) => {
                let span = append(text.as_bytes(), arena);
                if let Data::String(spans) = &mut out.data {
                    spans.push(span);
                    out.valid.push(true);
                }
            }
            value => out.push_value(&value, arena),
        }
    }
}

fn convert(value: Value, ty: Type) -> Value {
    match (value, ty) {
        (Value::Null, _) => Value::Null,
        (value, Type::String) => Value::String(as_text(&value).into()),
        (Value::Decimal(value), Type::Integer) => {
            i64::try_from(value.round(0).0 / ONE).map_or(Value::Null, Value::Integer)
        }
        (Value::Boolean(value), Type::Integer) => Value::Integer(i64::from(value)),
        (Value::Timestamp(value), Type::Integer) => Value::Integer(value),
        (Value::Integer(value), Type::Timestamp) => Value::Timestamp(value),
        (Value::Integer(value), Type::Decimal) => Value::Decimal(Decimal::from_int(value)),
        (Value::String(text), Type::Integer) => text.trim().parse().map_or(Value::Null, Value::Integer),
        (Value::String(text), Type::Decimal) => {
            Decimal::parse(text.trim().as_bytes()).map_or(Value::Null, Value::Decimal)
        }
        (Value::String(text), Type::Boolean) => match &*text.trim().to_ascii_lowercase() {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            _ => Value::Null,
        },
        (Value::String(text), Type::Timestamp) => timestamp(text.as_bytes()).map_or(Value::Null, Value::Timestamp),
        (value, ty) if value.type_of() == Some(ty) => value,
        _ => Value::Null,
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Timestamp(time) => crate::time::rfc3339(*time),
        value => {
            let mut out = Vec::new();
            value.write_json(&mut out);
            String::from_utf8(out).expect("JSON is UTF-8")
        }
    }
}
