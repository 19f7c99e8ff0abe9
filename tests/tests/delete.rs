//! `clickstream setup --delete` against a real broker: what the manifest asks for goes, what it does not ask for stays;
//! and whoever is made again under its name begins at the beginning.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tests::{
    binary::{free_address, root, run},
    kafka::{Broker, make_topic},
    roles::{PATIENCE, Role, get, role, set_up, wait},
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

/// A pipeline that goes with everything that it made for itself, and leaves its raw topic.
fn again(folder: &Path, broker: &Broker, adopt: bool) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: again}}
spec:
  deletionPolicy: Delete
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2, deletionPolicy: Retain, adopt: {adopt}}}
  ingest:
  - {{name: made, topic: views, synthetic: {{count: {EVENTS}, fields: {{user: {{choice: [a, b, c]}}, at: {{now: {{}}}}}}}}}}
  streams:
  - {{name: views, topics: [views], key: user, eventTime: {{field: at}}, fields: [{{name: user, type: string}}, {{name: at, type: timestamp}}]}}
  tables:
  - {{name: totals, from: views, window: {{tumbling: 1h}}, groupBy: [user], select: {{views: count()}}}}
",
        broker.address
    );
    let file = folder.join(format!("again-{adopt}.yaml"));
    fs::write(&file, text).unwrap();
    file
}

const EVENTS: u64 = 3_000;

/// Processes until every event is counted.
fn count_all(manifest: &Path) {
    let page = free_address().unwrap();
    let process = Role::start("process", manifest, &["--threads", "1"]).unwrap();
    let serve = Role::start("serve", manifest, &["--listen", &page]).unwrap();
    let counted = |ledger: &Option<serde_json::Value>| {
        ledger.as_ref().is_some_and(|ledger| ledger["tables"][0]["counted"] == EVENTS && ledger["unaccounted"] == 0)
    };
    wait("every event is counted", || get(&page, "/api/v1/ledger"), counted);
    [process, serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

#[test]
fn a_pipeline_that_is_made_again_begins_at_the_beginning() {
    let broker = Broker::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [false, true].map(|adopt| again(folder.path(), &broker, adopt));
    set_up(&first).unwrap();
    let ingest = Role::start("ingest", &first, &["--name", "made", "--until-done"]).unwrap();
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    count_all(&first);
    let said = delete(&first, &[]);
    assert!(said.contains("delete group again.process\n") && !said.contains("topic views\n"), "{said}");
    set_up(&second).unwrap();
    count_all(&second);
}
