//! Types of generated fields.

use engine::{plan::ColumnPlan, value::Type};

use super::streams::type_of;
use crate::{
    expression::{scope::Scope, typed},
    spec::{Any, Generator, PipelineSpec, Synthetic},
};

/// The fields that a generator makes, with their types, in the written order.
pub(crate) fn columns_of(spec: &PipelineSpec, synthetic: &Synthetic) -> Vec<ColumnPlan> {
    let order = crate::validate::generation_order(synthetic);
    let written = || synthetic.fields.iter().map(|(name, _)| name);
    let order: Vec<&str> = order.unwrap_or_else(|_| written().collect());
    let mut scope = Scope::default();
    for lookup in &spec.lookups {
        for field in &lookup.fields {
            scope.push(&format!("{}.{}", lookup.name, field.name), Some(type_of(field.ty)));
        }
        scope.open.push(lookup.name.clone());
    }
    for name in order {
        if let Some(generator) = synthetic.fields.get(name) {
            let ty = type_of_generator(generator, &scope);
            scope.push(name, Some(ty));
        }
    }
    let ty = |name: &str| scope.get(name).and_then(|column| column.ty).unwrap_or(Type::String);
    written().map(|name| ColumnPlan { name: name.to_owned(), ty: ty(name) }).collect()
}

fn type_of_generator(generator: &Generator, scope: &Scope) -> Type {
    match generator {
        Generator { integer: Some(_), .. } => Type::Integer,
        Generator { decimal: Some(_), .. } => Type::Decimal,
        Generator { now: Some(_), .. } => Type::Timestamp,
        Generator { sequence: Some(sequence), .. } if sequence.format.is_none() => Type::Integer,
        Generator { constant: Some(value), .. } => type_of_value(value),
        Generator { choice: Some(values), .. } => values.first().map_or(Type::String, type_of_value),
        Generator { expression: Some(text), .. } => {
            typed(text, &mut scope.clone(), None).map_or(Type::String, |expr| expr.type_of())
        }
        _ => Type::String,
    }
}

fn type_of_value(value: &Any) -> Type {
    match &value.0 {
        serde_json::Value::Bool(_) => Type::Boolean,
        serde_json::Value::Number(number) if number.is_i64() => Type::Integer,
        serde_json::Value::Number(_) => Type::Decimal,
        _ => Type::String,
    }
}
