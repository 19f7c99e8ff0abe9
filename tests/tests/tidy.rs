//! What review said twice: every file says what it is for, dependencies point one way, nothing is left unfinished.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::binary::root;

/// Folders that are not ours to judge.
const FOREIGN: [&str; 4] = ["target", ".git", "vendor", "node_modules"];

/// Lines below which 95 of 100 files stay.
const LINES_MOST: usize = 450;

/// Lines that no file passes, whatever its reason.
const LINES_MAX: usize = 800;

fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root(), extensions, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no files at all");
    found
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !FOREIGN.contains(&name) {
            collect(&path, extensions, found);
        } else if extensions.iter().any(|extension| path.extension().is_some_and(|of| of == *extension)) {
            found.push(path);
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent: Vec<String> =
        files(&["rs"]).iter().filter(|path| !text(path).starts_with("//! ")).map(|path| shown(path)).collect();
    assert!(silent.is_empty(), "without a module doc on the first line: {silent:#?}");
}

#[test]
fn dependencies_point_one_way() {
    let allowed: [(&str, &[&str]); 5] = [
        ("worker/engine", &[]),
        ("crds", &["engine"]),
        ("worker", &["engine", "crds"]),
        ("operator", &["engine", "crds"]),
        ("tests", &["engine", "crds", "worker", "operator"]),
    ];
    for (krate, may_use) in allowed {
        let manifest = text(&root().join(krate).join("Cargo.toml"));
        for other in ["engine", "crds", "worker", "operator", "tests"] {
            let uses = dependencies(&manifest).iter().any(|name| name == other);
            assert!(!uses || may_use.contains(&other), "{krate} must not depend on {other}");
        }
    }
}

#[test]
fn the_engine_cannot_do_io() {
    let manifest = text(&root().join("worker/engine/Cargo.toml"));
    let pure =
        ["hashbrown", "memchr", "thiserror", "xxhash-rust", "blake3", "proptest", "criterion", "serde_json", "serde"];
    let all = dependencies(&manifest);
    let impure: Vec<&String> = all.iter().filter(|name| !pure.contains(&name.as_str())).collect();
    assert!(impure.is_empty(), "a new dependency of the engine is a design change: {impure:?}");
    for path in files(&["rs"]).iter().filter(|path| path.starts_with(root().join("worker/engine/src"))) {
        let text = text(path);
        for banned in ["std::fs", "std::net", "std::thread", "std::env", "std::time", "SystemTime", "Instant::now"] {
            assert!(!text.contains(banned), "{}: {banned} in the engine", shown(path));
        }
    }
}

/// Names in all dependency tables of a Cargo.toml.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && !line.trim_start().starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.extend((!name.is_empty()).then(|| name.to_owned()));
        }
    }
    names
}

#[test]
fn nothing_is_left_unfinished() {
    // Written in two halves, so that this file does not accuse itself.
    let marks = [
        ["to", "do!("],
        ["unimplem", "ented!("],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["db", "g!("],
        ["#[ign", "ore"],
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["thread::sl", "eep"],
    ];
    let mut found = Vec::new();
    for path in files(&["rs", "toml", "yaml", "yml", "md", "html", "css", "sh", "js"]) {
        let text = text(&path);
        for mark in marks.map(|halves| halves.concat()) {
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(&mark));
            found.extend(lines.map(|(at, line)| format!("{}:{}: {}", shown(&path), at + 1, line.trim())));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn files_are_short() {
    let mut lines: Vec<(usize, String)> =
        files(&["rs"]).iter().map(|path| (text(path).lines().count(), shown(path))).collect();
    lines.sort();
    let median = lines[lines.len() / 2].0;
    let long: Vec<&(usize, String)> = lines.iter().filter(|(count, _)| *count > LINES_MOST).collect();
    println!("{} files, median {median} lines; longer than {LINES_MOST}: {long:#?}", lines.len());
    assert!(long.len() * 20 <= lines.len(), "more than one in twenty files is longer than {LINES_MOST}: {long:#?}");
    assert!(lines.iter().all(|(count, _)| *count <= LINES_MAX), "longer than {LINES_MAX}: {long:#?}");
}

#[test]
fn files_are_named_after_what_they_hold() {
    let vague = ["util", "utils", "common", "helper", "helpers", "manager", "handler", "misc"];
    let found: Vec<String> = files(&["rs"])
        .iter()
        .filter(|path| path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| vague.contains(&stem)))
        .map(|path| shown(path))
        .collect();
    assert!(found.is_empty(), "names that say nothing: {found:?}");
}

#[test]
fn the_resource_definition_is_what_the_types_say() {
    let checked_in: Vec<PathBuf> =
        files(&["yaml"]).into_iter().filter(|path| text(path).contains("kind: CustomResourceDefinition")).collect();
    let generated = crds::crd_yaml();
    assert_eq!(checked_in.len(), 2, "in crds/ and in the chart: {checked_in:?}");
    for path in checked_in {
        assert!(text(&path) == generated, "{} is old: tests/tools/definition writes it again", shown(&path));
    }
}
