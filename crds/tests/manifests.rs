//! What people see: problems of bad manifests, plans of good ones, the definition. Expected texts lie beside this file;
//! `UPDATE=1 cargo test -p crds` writes them anew.

#![expect(clippy::unwrap_used, reason = "a failing fixture is a failing test")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use serde_yaml::Value;

fn crate_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn yaml_files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(crate_path(directory)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{directory} has manifests");
    found
}

/// Compares with the file, or writes it.
fn expect(path: &str, got: &str) {
    let path = crate_path(path);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    let name = path.display();
    assert!(got == want, "{name} differs; UPDATE=1 writes it anew. It would be:\n{got}");
}

fn told(result: Result<crds::Checked, Vec<crds::Problem>>) -> String {
    match result {
        Ok(checked) => checked.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    }
}

#[test]
fn every_example_is_valid_and_its_plan_reads_well() {
    for (name, text) in yaml_files("../examples") {
        match crds::check(&text, &[]) {
            Ok(checked) => {
                assert_eq!(checked.warnings, [], "{name}");
                expect(&format!("tests/expected/{name}.plan.txt"), &crds::describe(&checked));
            }
            problems => panic!("{name}:\n{}", told(problems)),
        }
    }
}

#[test]
fn bad_manifests_are_told_all_their_problems() {
    for (name, text) in yaml_files("tests/bad") {
        let result = crds::check(&text, &[]);
        assert!(result.is_err() || name.starts_with("warned"), "{name} is refused");
        expect(&format!("tests/expected/{name}.problems.txt"), &told(result));
    }
}

#[test]
fn ten_mistakes_give_ten_messages() {
    let text = fs::read_to_string(crate_path("tests/bad/ten-mistakes.yaml")).unwrap();
    assert_eq!(crds::check(&text, &[]).unwrap_err().len(), 10);
}

#[test]
fn the_definition_in_the_repository_is_the_one_of_the_types() {
    expect("clickstreampipelines.yaml", &crds::crd_yaml());
}

/// The paths of all fields; `[]` for items of lists, `*` for values of maps.
fn schema_paths(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_mapping) {
        for (name, property) in properties {
            let path = format!("{path}.{}", name.as_str().unwrap());
            paths.insert(path.clone());
            schema_paths(property, &path, paths);
        }
    }
    if let Some(items) = schema.get("items") {
        schema_paths(items, &format!("{path}[]"), paths);
    }
    if let Some(values) = schema.get("additionalProperties") {
        schema_paths(values, &format!("{path}.*"), paths);
    }
}

fn value_paths(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                for key in [key.as_str().unwrap_or_default(), "*"] {
                    let path = format!("{path}.{key}");
                    paths.insert(path.clone());
                    value_paths(value, &path, paths);
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| value_paths(item, &format!("{path}[]"), paths)),
        _ => {}
    }
}

fn spec_schema() -> Value {
    let definition: Value = serde_yaml::from_str(&crds::crd_yaml()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

#[test]
fn the_reference_shows_every_field() {
    let mut wanted = BTreeSet::new();
    schema_paths(&spec_schema(), "spec", &mut wanted);
    let text = fs::read_to_string(crate_path("../examples/reference.yaml")).unwrap();
    let reference: Value = serde_yaml::from_str(&text).unwrap();
    let mut shown = BTreeSet::new();
    value_paths(&reference["spec"], "spec", &mut shown);
    // The same types are shown once: resources, volumes and TLS appear in several places.
    let elsewhere = |path: &str| {
        ["resources", "volume", "tls", "sasl", "autoscale"].iter().any(|part| path.contains(&format!(".{part}.")))
    };
    let missing: Vec<&String> = wanted.iter().filter(|path| !shown.contains(*path) && !elsewhere(path)).collect();
    assert!(missing.is_empty(), "examples/reference.yaml does not show {missing:#?}");
}

/// Rules that an API server evaluates have a budget; it is counted from these bounds.
#[test]
fn everything_in_the_schema_is_bounded_and_explained() {
    fn visit(schema: &Value, path: &str) {
        let ty = schema.get("type").and_then(Value::as_str).unwrap_or_default();
        let bounded = match ty {
            "array" => schema.get("maxItems").is_some(),
            "string" => schema.get("maxLength").is_some() || schema.get("enum").is_some(),
            "object" => schema.get("additionalProperties").is_none() || schema.get("maxProperties").is_some(),
            _ => true,
        };
        assert!(bounded, "{path} has no bound");
        for (name, property) in schema.get("properties").and_then(Value::as_mapping).into_iter().flatten() {
            let path = format!("{path}.{}", name.as_str().unwrap());
            assert!(property.get("description").is_some(), "{path} has no description");
            visit(property, &path);
        }
        for part in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(part) {
                visit(inner, &format!("{path}.{part}"));
            }
        }
    }
    visit(&spec_schema(), "spec");
}
