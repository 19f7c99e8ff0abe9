//! Pods stay as they were made: an operator of another version, which would make them otherwise, restarts none of them.
//!
//! Beside the pods of a Deployment or CronJob lies the template that they were made from, word for word, and what it was made
//! for. As long as the spec asks for the same, that template holds, and it is what drift is put right to. A changed spec, or
//! `restart`, has them made as today's operator makes them.

use serde_json::{Value, json};

use crate::desired::MADE_FOR_ANNOTATION;

/// The annotation with the template that the pods were made from.
pub(super) const TEMPLATE_ANNOTATION: &str = "clickstream.dev/pod-template";

/// Has `object` keep the pods of `found` where they were made for the same; an object without pods stays as it is.
pub(super) fn keep(object: &mut Value, found: Option<&Value>) {
    let annotation = |object: &Value, name: &str| object["metadata"]["annotations"][name].as_str().map(str::to_owned);
    let made_for = annotation(object, MADE_FOR_ANNOTATION);
    let found = found.filter(|found| made_for.is_some() && annotation(found, MADE_FOR_ANNOTATION) == made_for);
    let made_from = found.and_then(|found| annotation(found, TEMPLATE_ANNOTATION));
    let Some(template) = template(object) else { return };
    if let Some(kept) = made_from.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
        *template = kept;
    }
    let text = template.to_string();
    object["metadata"]["annotations"][TEMPLATE_ANNOTATION] = json!(text);
}

/// The pod template of a Deployment or CronJob.
fn template(object: &mut Value) -> Option<&mut Value> {
    let spec = object.get_mut("spec")?;
    let spec = match spec.get("jobTemplate") {
        Some(_) => spec.get_mut("jobTemplate")?.get_mut("spec")?,
        None => spec,
    };
    spec.get_mut("template")
}
