//! The way of a manifest from text to plan, with every problem on the way.

use std::sync::OnceLock;

use engine::plan::Plan;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde::Deserialize;

use crate::{
    limits::TEXT_BYTES_MAX,
    lower,
    problem::{Problem, Report, field},
    schema, shape,
    spec::{PipelineSpec, patterns},
    validate, warnings,
    yaml::{self, Entry, Node, Notes, Position, Value, YamlProblem, overrides},
};

pub(crate) const API_VERSION: &str = "clickstream.dev/v1alpha1";
pub(crate) const KIND: &str = "ClickstreamPipeline";

/// A manifest: its name and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `metadata.name`.
    pub name: String,
    /// `spec`, defaults filled in.
    pub spec: PipelineSpec,
}

/// A manifest that makes sense, and what it lowers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The manifest.
    pub manifest: Manifest,
    /// What the engine does.
    pub plan: Plan,
    /// What is accepted but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Checks a manifest and lowers it. `overrides` are `-s path=value`: fields under `spec`, list items by their name.
///
/// # Errors
/// Every problem, in the order of the file.
pub fn check(text: &str, overrides: &[(String, String)]) -> Result<Checked, Vec<Problem>> {
    let mut report = Report::default();
    let checked = read(text, overrides, &mut report);
    let (problems, warnings) = report.finish();
    match checked {
        Some((manifest, plan)) if problems.is_empty() => Ok(Checked { manifest, plan, warnings }),
        _ => Err(problems),
    }
}

fn read(text: &str, overrides: &[(String, String)], report: &mut Report) -> Option<(Manifest, Plan)> {
    let mut document = document(text, report)?;
    for (path, value) in overrides {
        if let Err(message) = overrides::set(&mut document, path, value) {
            report.push(Problem::at(Position::default(), &format!("-s {path}"), message));
        }
    }
    warnings::of_words(&document, report);
    let (name, spec) = root(document, report)?;
    report.index(&spec, "spec", spec.at);
    let spec = match PipelineSpec::deserialize(&spec) {
        Ok(spec) => spec,
        Err(error) => {
            report.add("spec", error.to_string());
            return None;
        }
    };
    let plan = lower::lower(&name, &spec, report);
    validate::validate(&spec, &plan, report);
    Some((Manifest { name, spec }, plan.plan))
}

/// Reads the text, which must hold one document.
fn document(text: &str, report: &mut Report) -> Option<Node> {
    if text.len() > TEXT_BYTES_MAX {
        let message =
            format!("a manifest has at most {TEXT_BYTES_MAX} bytes, because no cluster would store a larger one");
        report.push(Problem::at(Position::default(), "", message).found(format!("{} bytes", text.len())));
        return None;
    }
    let mut notes = Notes::default();
    let documents = yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(text), &mut notes);
    let problem = |problem: YamlProblem| Problem::at(problem.at, "", problem.message);
    let quoted = |warning| problem(warning).accepts("the same in quotes");
    report.warnings.extend(notes.warnings.into_iter().map(quoted));
    notes.problems.into_iter().for_each(|found| report.push(problem(found)));
    let mut documents = documents.map_err(|found| report.push(problem(found))).ok()?;
    let is_pipeline = |node: &Node| node.get("kind").and_then(Node::as_str) == Some(KIND);
    let index = documents.iter().position(is_pipeline).unwrap_or(0);
    for (at, other) in documents.iter().enumerate().filter(|(at, _)| *at != index) {
        let message = match is_pipeline(other) {
            true => "a second pipeline: one file, one pipeline".to_owned(),
            false => format!("document {} of the file is no {KIND}: keep other objects in a file of their own", at + 1),
        };
        let kind = other.get("kind").map(Node::describe).unwrap_or_default();
        report.push(Problem::at(other.at, "", message).found(kind));
    }
    if documents.is_empty() {
        let accepted = format!("apiVersion: {API_VERSION}, kind: {KIND}, metadata, spec");
        report.push(Problem::at(Position { line: 1, column: 1 }, "", "the file is empty").accepts(accepted));
        return None;
    }
    Some(documents.swap_remove(index))
}

/// Checks what stands around the spec, and the spec's shape.
fn root(document: Node, report: &mut Report) -> Option<(String, Node)> {
    let at = document.at;
    let Value::Map(entries) = document.value else {
        report.push(Problem::at(at, "", "a manifest is a map").found(document.describe()));
        return None;
    };
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        report.push(Problem::at(entry.at, &entry.key, "unknown field").one_of(&entry.key, known));
    }
    let get = |key: &str| entries.iter().find(|entry| entry.key == key);
    word(report, get("apiVersion"), "apiVersion", API_VERSION, at);
    let is_pipeline = word(report, get("kind"), "kind", KIND, at);
    let name = name(report, get("metadata"), at);
    // The fields of another kind are not ours to judge.
    if !is_pipeline {
        return None;
    }
    let Some(spec) = entries.into_iter().find(|entry| entry.key == "spec" && entry.node.value != Value::Null) else {
        report.push(Problem::at(at, "spec", "is required"));
        return None;
    };
    let spec = shape::check(report, spec_schema(), spec.node, "spec", spec.at)?;
    Some((name.unwrap_or_default(), spec))
}

fn word(report: &mut Report, entry: Option<&Entry>, key: &str, want: &str, at: Position) -> bool {
    match entry {
        Some(entry) if entry.node.as_str() == Some(want) => true,
        Some(entry) => {
            let found = entry.node.describe();
            let near = entry.node.as_str().unwrap_or_default().to_owned();
            let problem = Problem::at(entry.node.at, key, format!("must be {want}")).found(found);
            report.push(problem.one_of(&near, [want]));
            false
        }
        None => {
            report.push(Problem::at(at, key, "is required").accepts(want));
            false
        }
    }
}

fn name(report: &mut Report, metadata: Option<&Entry>, at: Position) -> Option<String> {
    let place = metadata.map_or(at, |metadata| metadata.at);
    let path = field("metadata", "name");
    let Some(name) = metadata.and_then(|metadata| metadata.node.get("name")) else {
        report.push(Problem::at(place, &path, "is required").accepts("lower-case letters, digits and hyphens"));
        return None;
    };
    let text = name.as_str().unwrap_or_default();
    let (fits, words) = patterns::check(patterns::OBJECT_NAME, text).unwrap_or((false, ""));
    if !fits || text.len() > 40 {
        let problem = Problem::at(name.at, &path, "is not a name that objects can carry").found(name.describe());
        report.push(problem.accepts(format!("at most 40 {words}")));
        return None;
    }
    Some(text.to_owned())
}

fn spec_schema() -> &'static JSONSchemaProps {
    static SCHEMA: OnceLock<JSONSchemaProps> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut definition = schema::definition();
        let version = definition.spec.versions.pop().expect("the definition has one version");
        let whole = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("the version has a schema");
        whole.properties.and_then(|mut properties| properties.remove("spec")).expect("the schema has a spec")
    })
}
