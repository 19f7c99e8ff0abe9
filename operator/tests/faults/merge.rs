//! Server-side apply for the objects that the operator writes: what a writer said before and does not say now goes, what it
//! says now is merged, lists with keys by their keys.

use serde_json::Value;

/// The lists that Kubernetes merges, and by what.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "env" | "volumes" | "ports" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "ownerReferences" => Some("uid"),
        "conditions" => Some("type"),
        "topics" | "ingest" | "sinks" => Some("name"),
        _ => None,
    }
}

/// Whether both are lists whose items all have the key.
fn keyed(name: &str, one: &Value, other: &Value) -> Option<&'static str> {
    let key = key_of(name)?;
    let has = |list: &Value| list.as_array().is_some_and(|items| items.iter().all(|item| item.get(key).is_some()));
    (has(one) && has(other)).then_some(key)
}

/// Takes out of `object` what `before` said and `now` does not say.
pub fn withdraw(object: &mut Value, before: &Value, now: &Value) {
    let (Some(object), Some(before)) = (object.as_object_mut(), before.as_object()) else { return };
    for (name, before) in before {
        let Some(now) = now.get(name) else {
            object.remove(name);
            continue;
        };
        let Some(found) = object.get_mut(name) else { continue };
        match keyed(name, before, now) {
            Some(key) => withdraw_items(found, before, now, key),
            None => withdraw(found, before, now),
        }
    }
}

fn withdraw_items(found: &mut Value, before: &Value, now: &Value, key: &str) {
    let Some(items) = found.as_array_mut() else { return };
    let same = |list: &Value, item: &Value| list.as_array()?.iter().find(|other| other[key] == item[key]).cloned();
    items.retain(|item| same(before, item).is_none() || same(now, item).is_some());
    for item in items {
        if let (Some(before), Some(now)) = (same(before, item), same(now, item)) {
            withdraw(item, &before, &now);
        }
    }
}

/// Puts what `now` says into `object`.
pub fn merge(object: &mut Value, now: &Value) {
    let Some(now) = now.as_object() else {
        *object = now.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(serde_json::Map::new());
    }
    for (name, now) in now {
        let found = &mut object[name];
        match keyed(name, found, now) {
            Some(key) => merge_items(found, now, key),
            None => merge(found, now),
        }
    }
}

fn merge_items(found: &mut Value, now: &Value, key: &str) {
    let (Some(items), Some(now)) = (found.as_array_mut(), now.as_array()) else { return };
    for item in now {
        match items.iter_mut().find(|other| other[key] == item[key]) {
            Some(same) => merge(same, item),
            None => items.push(item.clone()),
        }
    }
}
