//! `clickstream setup`, killed again and again while it works, on a real broker: the next one finishes what it began; and two at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crds::Checked;
use tests::{
    binary::{Ended, Running, run},
    kafka::{Broker, topic_fact},
    roles::{PATIENCE, role},
};

/// Moments at which it is killed, spread over the time that it takes undisturbed.
const MOMENTS: u32 = 6;

/// What a set-up has to make: a pipeline, then the same with a table defined anew, which takes an epoch of its own, and with
/// more partitions.
const SPECS: [(&str, u32); 2] = [("views: count()", 2), ("views: count(), users: count(distinct user)", 3)];

fn manifest(folder: &Path, broker: &Broker, name: &str, (select, partitions): (&str, u32)) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: {name}}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: {name}-views, partitions: {partitions}, retention: 7d}}
  streams:
  - {{name: views, topics: [{name}-views], key: user, fields: [{{name: user, type: string}}]}}
  tables:
  - {{name: totals, from: views, select: {{{select}}}}}
",
        broker.address
    );
    let file = folder.join(format!("{name}.yaml"));
    fs::write(&file, text).unwrap();
    file
}

/// Topics that two set-ups made, by what they are called behind the pipeline's name.
fn made(said: &str, name: &str) -> Vec<String> {
    let created = said.lines().filter_map(|line| line.strip_prefix("create ")?.split(' ').next()?.strip_prefix(name));
    created.map(str::to_owned).collect()
}

fn facts(manifest: &Path, name: &str, topics: &[String]) -> BTreeMap<String, (u32, BTreeMap<String, String>)> {
    let checked: Checked = crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap();
    let fact = |topic: &String| topic_fact(&checked, &format!("{name}{topic}")).unwrap().expect("it was made");
    let facts = topics.iter().map(|topic| (topic.clone(), fact(topic)));
    facts.map(|(topic, fact)| (topic, (fact.partitions, fact.settings))).collect()
}

#[test]
fn one_that_is_killed_is_finished_by_the_next() {
    let (broker, folder) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let (mut topics, mut times) = (Vec::new(), Vec::new());
    // A broker takes its time over the first ones.
    for (name, spec) in SPECS.map(|spec| ("warm", spec)).into_iter().chain(SPECS.map(|spec| ("whole", spec))) {
        let begin = Instant::now();
        let file = manifest(folder.path(), &broker, name, spec);
        let done = run(role("setup", &file, &[]).unwrap(), PATIENCE).unwrap();
        assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
        if name == "whole" {
            times.push(begin.elapsed());
            topics.extend(made(&done.stdout, name));
        }
    }
    let wanted = facts(&folder.path().join("whole.yaml"), "whole", &topics);
    assert!(topics.len() > 5 && wanted["-views"].0 == 3, "{wanted:?}");
    let (mut cut, mut whole) = (0, 0);
    for moment in 0..MOMENTS {
        let name = format!("cut{moment}");
        for (spec, time) in SPECS.into_iter().zip(&times) {
            let file = manifest(folder.path(), &broker, &name, spec);
            let begun = Running::start(role("setup", &file, &[]).unwrap()).unwrap();
            std::thread::park_timeout(*time * moment / MOMENTS);
            match begun.kill().unwrap().status.success() {
                true => whole += 1,
                false => cut += 1,
            }
            let done = run(role("setup", &file, &[]).unwrap(), PATIENCE).unwrap();
            assert!(done.status.success(), "{name}, {spec:?}: {}{}", done.stdout, done.stderr);
            let again = run(role("setup", &file, &[]).unwrap(), Duration::from_secs(30)).unwrap();
            let settled = again.stdout.starts_with("all ") && again.stdout.lines().count() == 1;
            assert!(settled, "{name}, {spec:?}: {}{}", again.stdout, again.stderr);
        }
        let found = facts(&folder.path().join(format!("{name}.yaml")), &name, &topics);
        assert_eq!(found, wanted, "{name}");
    }
    println!("{cut} set-ups were killed, {whole} were through by then; {times:?} undisturbed");
    assert!(cut > MOMENTS, "too few were killed: {cut}");
}

/// Pairs of set-ups that run at the same time.
const PAIRS: u32 = 4;

#[test]
fn two_at_once_agree() {
    let (broker, folder) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let file = manifest(folder.path(), &broker, "alone", SPECS[0]);
    let done = run(role("setup", &file, &[]).unwrap(), PATIENCE).unwrap();
    let mut topics = made(&done.stdout, "alone");
    let file = manifest(folder.path(), &broker, "alone", SPECS[1]);
    let done = run(role("setup", &file, &[]).unwrap(), PATIENCE).unwrap();
    topics.extend(made(&done.stdout, "alone"));
    let wanted = facts(&file, "alone", &topics);
    let (mut both, mut one) = (0, 0);
    for pair in 0..PAIRS {
        let name = format!("pair{pair}");
        for spec in SPECS {
            let file = manifest(folder.path(), &broker, &name, spec);
            let begun = [(); 2].map(|()| Running::start(role("setup", &file, &[]).unwrap()).unwrap());
            let ended = begun.map(|begun| begun.wait(PATIENCE).unwrap());
            let made = ended.iter().filter(|ended| ended.status.success()).count();
            match made {
                2 => both += 1,
                _ => one += 1,
            }
            let told = |ended: &Ended| ended.status.success() || ended.stderr.contains("meanwhile: try again");
            assert!(made > 0 && ended.iter().all(told), "{ended:#?}");
            let again = run(role("setup", &file, &[]).unwrap(), PATIENCE).unwrap();
            assert!(again.stdout.starts_with("all ") && again.stdout.lines().count() == 1, "{again:?}");
        }
        let found = facts(&folder.path().join(format!("{name}.yaml")), &name, &topics);
        assert_eq!(found, wanted, "{name}");
        let more = format!("{name}.e3.shuffle");
        let checked: Checked = crds::check(&fs::read_to_string(&file).unwrap(), &[]).unwrap();
        assert_eq!(topic_fact(&checked, &more).unwrap(), None, "an epoch that nobody asked for");
    }
    println!("of {} pairs {both} times both were through, {one} times one was told to try again", PAIRS * 2);
}
