//! The manifests of `examples/` make sense.

#![expect(clippy::unwrap_used, reason = "a failing fixture is a failing test")]

use std::{fs, path::PathBuf};

fn examples() -> Vec<(String, String)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn all_examples_are_accepted_without_a_warning() {
    for (name, text) in examples() {
        match crds::check(&text, &[]) {
            Ok(checked) => assert_eq!(checked.warnings, [], "{name}"),
            Err(problems) => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                panic!("{name}:\n{}", told.join("\n"));
            }
        }
    }
}
