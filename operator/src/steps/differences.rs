//! What of an object is otherwise than we say it. What the cluster adds by itself and what others add is no difference.

use serde_json::Value;

use crate::quantity::quantity;

/// A field that is otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where it is, as `spec.template.spec.containers[clickstream].image`.
    pub path: String,
    /// What is there instead; null where nothing is.
    pub found: Value,
}

/// Whether `found` says everything that `wanted` says; the cluster adds defaults of its own, and others may add items to the
/// lists that server-side apply merges: those stay theirs, or we would write them away for ever in vain.
#[must_use]
pub fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| match found.get(name) {
            Some(Value::Array(found)) if merge_key(name, wanted).is_some() => {
                let items = wanted.as_array().into_iter().flatten();
                items.into_iter().all(|wanted| found.iter().any(|found| covers(found, wanted)))
            }
            Some(found) => covers(found, wanted),
            None => is_empty(wanted),
        }),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| covers(found, wanted))
        }
        (Value::String(found), Value::String(wanted)) => found == wanted || same_quantity(found, wanted),
        _ => found == wanted,
    }
}

/// Where `found` does not say what `wanted` says, in order. There is none where it [`covers`] it.
#[must_use]
pub fn differences(found: &Value, wanted: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    collect(String::new(), found, wanted, &mut all);
    all
}

fn collect(path: String, found: &Value, wanted: &Value, all: &mut Vec<Difference>) {
    if covers(found, wanted) {
        return;
    }
    let (Value::Object(fields), Value::Object(wanted)) = (found, wanted) else {
        all.push(Difference { path, found: found.clone() });
        return;
    };
    for (name, wanted) in wanted {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let found = fields.get(name).unwrap_or(&Value::Null);
        match (found, merge_key(name, wanted)) {
            (Value::Null, _) if is_empty(wanted) => {}
            (Value::Array(found), Some(key)) => {
                for wanted in wanted.as_array().into_iter().flatten() {
                    let same = found.iter().find(|item| item[key] == wanted[key]).unwrap_or(&Value::Null);
                    let item = wanted[key].as_str().unwrap_or_default();
                    collect(format!("{path}[{item}]"), same, wanted, all);
                }
            }
            _ => collect(path, found, wanted, all),
        }
    }
}

/// The key by which Kubernetes merges the items of a list, for those lists that it merges; the others have one owner.
fn merge_key(name: &str, wanted: &Value) -> Option<&'static str> {
    let key = match name {
        // The ports of a NetworkPolicy have no names, and one owner.
        "containers" | "env" | "volumes" | "ports" => "name",
        "volumeMounts" => "mountPath",
        "topologySpreadConstraints" => "topologyKey",
        "ownerReferences" => "uid",
        _ => return None,
    };
    wanted.as_array().is_some_and(|items| items.iter().all(|item| item.get(key).is_some())).then_some(key)
}

/// The cluster leaves out what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// `0.5` and `500m` are one quantity: the cluster writes it its own way.
fn same_quantity(one: &str, other: &str) -> bool {
    match (quantity(one), quantity(other)) {
        (Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-9,
        _ => false,
    }
}
