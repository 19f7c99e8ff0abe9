//! `clickstream setup` and topics that somebody else made or set, on a real broker: nobody's topic is taken over or changed
//! unasked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use crds::Checked;
use tests::{
    binary::{Ended, run},
    kafka::{Broker, make_topic, topic_fact},
    roles::{PATIENCE, role},
};

/// A pipeline over three topics, of which `views` is said to be `views`.
fn manifest(folder: &Path, broker: &Broker, views: &str) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: cared}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, {views}}}
  - {{name: seen, partitions: 2, managementPolicy: Observe}}
  - {{name: new, partitions: 2}}
  streams:
  - name: views
    topics: [views, seen, new]
    key: user
    fields:
    - {{name: user, type: string}}
  tables:
  - {{name: totals, from: views, select: {{views: count()}}}}
",
        broker.address
    );
    let file = folder.join("cared.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn checked(manifest: &Path) -> Checked {
    crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap()
}

fn set_up(manifest: &Path, more: &[&str]) -> Ended {
    run(role("setup", manifest, more).unwrap(), PATIENCE).unwrap()
}

fn partitions(checked: &Checked, topic: &str) -> Option<u32> {
    topic_fact(checked, topic).unwrap().map(|fact| fact.partitions)
}

#[test]
fn a_topic_is_only_taken_over_or_made_where_the_manifest_says_so() {
    let (broker, folder) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let managed = manifest(folder.path(), &broker, "partitions: 2");
    let checked = checked(&managed);
    make_topic(&checked, "views", 1, &[]).unwrap();
    let foreign = "views: was there before this pipeline: say `adopt: true`";
    // The second time as well: the first has left nothing behind by which topics would be taken for the pipeline's.
    for _ in 0..2 {
        let refused = set_up(&managed, &[]);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(
            refused.stderr.contains(foreign) && refused.stderr.contains("seen: is not there"),
            "{}",
            refused.stderr
        );
        assert!(refused.stdout.contains("would create new with 2 partitions"), "{}", refused.stdout);
    }
    let there = |topic: &str| partitions(&checked, topic);
    assert_eq!([there("views"), there("seen"), there("new"), there("cared.progress")], [Some(1), None, None, None]);

    make_topic(&checked, "seen", 1, &[]).unwrap();
    let adopting = manifest(folder.path(), &broker, "partitions: 2, adopt: true");
    let refused = set_up(&adopting, &[]);
    let unfit = "seen: has 1 partitions, the manifest says 2; it is only looked at, so: say 1";
    assert!(!refused.status.success() && refused.stderr.contains(unfit), "{}", refused.stderr);
    assert!(!refused.stderr.contains("views:"), "{}", refused.stderr);
    assert_eq!([there("views"), there("seen")], [Some(1), Some(1)]);

    // What is said of the others is true now. An adopted topic keeps the stamps that it has.
    let text = fs::read_to_string(&adopting).unwrap().replace("name: seen, partitions: 2", "name: seen, partitions: 1");
    fs::write(&adopting, text).unwrap();
    let done = set_up(&adopting, &[]);
    assert!(done.status.success() && done.stdout.contains("grow views from 1 to 2"), "{}{}", done.stdout, done.stderr);
    assert_eq!([there("views"), there("seen"), there("new")], [Some(2), Some(1), Some(2)]);
    let stamps = |topic: &str| topic_fact(&checked, topic).unwrap().unwrap().settings["message.timestamp.type"].clone();
    assert_eq!([stamps("views"), stamps("seen"), stamps("new")], ["CreateTime", "CreateTime", "LogAppendTime"]);
    assert!(set_up(&adopting, &[]).stdout.contains("as they should be"));
}
