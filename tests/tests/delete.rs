//! `clickstream setup --delete` against a real broker: what the manifest asks for goes, what it does not ask for stays.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tests::{
    binary::{root, run},
    kafka::{Broker, make_topic},
    roles::{PATIENCE, role, set_up},
};
use worker::{
    kafka::{admin::Admin, client::Cluster},
    secrets::Secrets,
};

/// The example with topics of every kind, and a policy.
fn manifest(folder: &Path, broker: &Broker, policy: &str) -> PathBuf {
    let text = fs::read_to_string(root().join("examples/category-sales.yaml")).unwrap();
    let (text, _) = text.split_once("  sinks:\n").unwrap();
    let topics = "  topics:\n  - {name: told, deletionPolicy: Delete}\n  - {name: kept, deletionPolicy: Retain}\n  \
                  - {name: adopted, adopt: true}\n  - {name: seen, managementPolicy: Observe}\n  - {name: used}\n";
    let text = text.replace("kafka-bootstrap:9092", &broker.address).replace("  topics:\n", topics);
    let text = text.replace("spec:\n", &format!("spec:\n  deletionPolicy: {policy}\n"));
    assert!(text.contains("adopted") && text.contains(policy), "the example has changed");
    let file = folder.join(format!("{policy}.yaml"));
    fs::write(&file, text).unwrap();
    file
}

/// Those of all topics that were ever there which are there still.
fn there(manifest: &Path) -> BTreeSet<String> {
    let checked = crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap();
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment()).unwrap();
    let own = ["shuffle", "results", "checkpoints", "progress", "dead-letters", "repaired"];
    let own = own.map(|name| format!("category-sales.{name}"));
    let raw = ["told", "kept", "adopted", "seen", "used", "transactions"].map(str::to_owned);
    let names: Vec<String> = own.into_iter().chain(raw).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Admin::new(&cluster).unwrap().facts(&names).unwrap().into_keys().collect()
}

fn delete(manifest: &Path, more: &[&str]) -> String {
    let more = [&["--delete"], more].concat();
    let ended = run(role("setup", manifest, &more).unwrap(), PATIENCE).unwrap();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

#[test]
fn what_is_asked_for_goes_and_nothing_else() {
    let broker = Broker::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [some, all] = ["Retain", "Delete"].map(|policy| manifest(folder.path(), &broker, policy));
    // What is only looked at is for others to make.
    let checked = crds::check(&fs::read_to_string(&some).unwrap(), &[]).unwrap();
    make_topic(&checked, "seen", 1, &[]).unwrap();
    set_up(&some).unwrap();
    let before = there(&some);
    assert_eq!(before.len(), 12, "{before:?}");

    // A look changes nothing.
    let said = delete(&all, &["--dry-run", "--keep", "used"]);
    assert!(said.contains("would delete topic told\n") && !said.contains("topic used"), "{said}");
    assert_eq!(there(&all), before);

    // One topic asks for it, the pipeline does not.
    assert_eq!(delete(&some, &[]), "delete topic told\n");
    let left: BTreeSet<String> = before.into_iter().filter(|name| name != "told").collect();
    assert_eq!(there(&some), left);

    // The pipeline asks: but for what is adopted, only looked at, said to stay, or used by others.
    let said = delete(&all, &["--keep", "used"]);
    assert!(said.ends_with("delete topic category-sales.progress\n"), "{said}");
    let left: Vec<String> = there(&all).into_iter().collect();
    assert_eq!(left, ["adopted", "kept", "seen", "used"]);

    // Again there is nothing to do.
    assert_eq!(delete(&all, &["--keep", "used"]), "none of the topics that go with the pipeline is there\n");
}
