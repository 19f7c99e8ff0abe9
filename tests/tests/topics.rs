//! `clickstream setup` and topics that somebody else made or set, on a real broker: nobody's topic is taken over or changed
//! unasked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use crds::Checked;
use engine::time::rfc3339;
use serde_json::json;
use tests::{
    binary::{Ended, free_address, run},
    kafka::{Broker, make_topic, raw_records, set_topic, topic_fact},
    random::Random,
    roles::{PATIENCE, Role, UNASKED, get, role, wait},
    sales::over_http,
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

    // Copies are for a person to add.
    let text = fs::read_to_string(&adopting).unwrap().replace("adopt: true", "adopt: true, replicationFactor: 3");
    fs::write(&adopting, text).unwrap();
    let few = set_up(&adopting, &[]);
    assert_eq!(few.status.code(), Some(2), "{}", few.stderr);
    assert!(few.stderr.contains("views: has 1 copy of a partition, the manifest says 3: add some"), "{}", few.stderr);
}

#[test]
fn what_the_manifest_names_is_set_and_nothing_else() {
    let (broker, folder) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let said = |retention: &str, compression: &str| {
        let config = format!("config: {{compression.type: {compression}, segment.ms: '3600000'}}");
        manifest(folder.path(), &broker, &format!("partitions: 1, retention: {retention}, {config}"))
    };
    let file = said("7d", "lz4");
    let checked = checked(&file);
    make_topic(&checked, "seen", 2, &[]).unwrap();
    let done = set_up(&file, &[]);
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
    let is = |topic: &str, setting: &str| topic_fact(&checked, topic).unwrap().unwrap().settings[setting].clone();

    let page = free_address().unwrap();
    let mut serve = Role::start("serve", &file, &["--listen", &page]).unwrap();
    serve.wait_until_ready().unwrap();
    let look = || get(&page, "/api/v1/topics/differences");
    wait("nothing differs", look, |told| *told == Some(json!({"differences": []})));

    // By hand: what the manifest names, what it does not name, and what the pipeline needs.
    set_topic(&checked, "views", &[("segment.ms", "7200000"), ("min.compaction.lag.ms", "5")]).unwrap();
    set_topic(&checked, "seen", &[("retention.ms", "1000")]).unwrap();
    set_topic(&checked, "cared.shuffle", &[("retention.ms", "3600000"), ("flush.ms", "77")]).unwrap();
    let told = |topic: &str, what: &str| json!({"topic": topic, "what": what, "by_hand": false});
    let differ = [
        told("views", "set views: segment.ms=3600000 (it is 7200000)"),
        told("cared.shuffle", "set cared.shuffle: retention.ms=-1 (it is 3600000)"),
    ];
    wait("both are told", look, |told| *told == Some(json!({ "differences": differ })));
    assert_eq!(serve.figure("clickstream_topic_differences").unwrap(), Some(2.0));
    serve.end_in_order().unwrap();
    let file = said("14d", "zstd");
    let views = "set views: compression.type=zstd (it is lz4), retention.ms=1209600000 (it is 604800000), \
                 segment.ms=3600000 (it is 7200000)";
    let shuffle = "set cared.shuffle: retention.ms=-1 (it is 3600000)";
    let refused = run(role("process", &file, &UNASKED).unwrap(), PATIENCE).unwrap();
    assert!(refused.status.code() == Some(2) && refused.stderr.contains(shuffle), "{}", refused.stderr);
    let planned = set_up(&file, &["--dry-run"]);
    assert_eq!(planned.stdout, format!("would {views}\nwould {shuffle}\n"), "{}", planned.stderr);
    assert_eq!([is("views", "retention.ms"), is("cared.shuffle", "retention.ms")], ["604800000", "3600000"]);
    let done = set_up(&file, &[]);
    assert_eq!(done.stdout, format!("{views}\n{shuffle}\n"), "{}", done.stderr);
    let named = ["retention.ms", "compression.type", "segment.ms", "min.compaction.lag.ms", "message.timestamp.type"];
    assert_eq!(named.map(|name| is("views", name)), ["1209600000", "zstd", "3600000", "5", "LogAppendTime"]);
    assert_eq!(["retention.ms", "flush.ms"].map(|name| is("cared.shuffle", name)), ["-1", "77"]);
    assert_eq!(is("seen", "retention.ms"), "1000");
    assert!(set_up(&file, &[]).stdout.contains("as they should be"));

    // All of a topic's settings or none: the broker says which one it is.
    let refused = set_up(&said("1d", "fast"), &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    let told = ["topic views", "compression.type", "fast"];
    assert!(told.iter().all(|word| refused.stderr.contains(word)), "{}", refused.stderr);
    assert_eq!(is("views", "retention.ms"), "1209600000");

    // Where records may be gone, or have other stamps, somebody has to look.
    set_topic(&checked, "views", &[("message.timestamp.type", "CreateTime")]).unwrap();
    let refused = set_up(&said("14d", "zstd"), &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("message.timestamp.type is CreateTime, not LogAppendTime"), "{}", refused.stderr);
}

/// Text that no compression makes shorter than three quarters.
fn noise(seed: u64, length: usize) -> String {
    let mut random = Random::new(seed);
    (0..length).map(|_| char::from(b'0' + random.below(64) as u8)).collect()
}

#[test]
fn an_event_that_a_topic_of_others_never_takes_is_refused_and_keeps_no_other_waiting() {
    let (broker, folder) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let address = free_address().unwrap();
    let text = over_http(&broker.address, &address).unwrap();
    let text = text.replace("- name: transactions\n", "- name: transactions\n    managementPolicy: Observe\n");
    let file = folder.path().join("sales.yaml");
    fs::write(&file, &text).unwrap();
    let checked = checked(&file);
    make_topic(&checked, "transactions", checked.plan.topics[0].partitions, &[("max.message.bytes", "20000")]).unwrap();
    let made = set_up(&file, &[]);
    assert!(made.status.success(), "{}", made.stderr);
    let mut collector = Role::start("ingest", &file, &["--name", "checkout"]).unwrap();
    collector.wait_until_ready().unwrap();

    let post = |number: usize, note: usize| {
        let time = rfc3339(i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
        let event = json!({
            "transaction_id": format!("t{number}"), "category": "Home", "amount": 1, "timestamp": time,
            "note": noise(number as u64, note),
        });
        let request = ureq::post(format!("http://{address}/v1/events")).content_type("application/json");
        let answer = request.config().http_status_as_error(false).build().send(event.to_string()).unwrap();
        (answer.status().as_u16(), answer.into_body().read_to_string().unwrap())
    };
    let answers: Vec<(usize, (u16, String))> = std::thread::scope(|scope| {
        let posted: Vec<_> = (0..40)
            .map(|number| (number, scope.spawn(move || post(number, if number % 10 == 3 { 60_000 } else { 10 }))))
            .collect();
        posted.into_iter().map(|(number, client)| (number, client.join().unwrap())).collect()
    });
    for (number, (status, answer)) in answers {
        let (expected, part) =
            if number % 10 == 3 { (413, "larger than transactions may take") } else { (200, "\"accepted\":1") };
        assert!(status == expected && answer.contains(part), "{number}: {status} {answer}");
    }
    let stored = raw_records(&checked).unwrap();
    assert_eq!(stored.values().map(Vec::len).sum::<usize>(), 36);
    collector.end_in_order().unwrap();
}
