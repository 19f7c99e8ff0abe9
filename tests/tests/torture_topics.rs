//! Topics that somebody deletes while they are read, makes again, or has set otherwise: every role says what is wrong and
//! what to do, and nobody takes new records for those that were there before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::PathBuf, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
};
use tests::{
    binary::{free_address, run},
    kafka::{Broker, produce},
    roles::{PATIENCE, Role, UNASKED, role, set_up},
};

fn manifest(directory: &tempfile::TempDir, broker: &Broker) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: gone}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 1}}
  - {{name: other, partitions: 1}}
  ingest:
  - name: made
    topic: other
    synthetic: {{eventsPerSecond: 100, fields: {{user: {{choice: [a, b]}}}}}}
  streams:
  - name: views
    topics: [views]
    key: user
    fields:
    - {{name: user, type: string}}
  tables:
  - {{name: totals, from: views, select: {{views: count()}}}}
  process: {{checkpoints: {{every: 1s}}}}
",
        broker.address
    );
    let file = directory.path().join("gone.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// Somebody with the tools of Kafka.
struct Somebody {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Somebody {
    fn at(broker: &Broker) -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client, runtime }
    }

    fn options() -> AdminOptions {
        AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)))
    }

    fn deletes(&self, topic: &str) {
        let deleted = self.runtime.block_on(self.client.delete_topics(&[topic], &Self::options())).unwrap();
        deleted.into_iter().for_each(|deleted| drop(deleted.unwrap()));
    }

    fn makes(&self, topic: &str) {
        let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime");
        let made = self.runtime.block_on(self.client.create_topics([&topic], &Self::options())).unwrap();
        made.into_iter().for_each(|made| drop(made.unwrap()));
    }

    fn sets(&self, topic: &str, name: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let changed = self.runtime.block_on(self.client.alter_configs([&change], &Self::options())).unwrap();
        changed.into_iter().for_each(|changed| drop(changed.unwrap()));
    }
}

/// What `/readyz` says.
fn readiness(role: &Role) -> Option<String> {
    let request = ureq::get(format!("http://{}/readyz", role.health)).config().http_status_as_error(false).build();
    request.call().ok()?.into_body().read_to_string().ok()
}

fn wait_until_it_says(role: &mut Role, wanted: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let said = readiness(role);
        if said.as_ref().is_some_and(|said| said.contains(wanted)) {
            return;
        }
        assert!(!role.running.has_ended().unwrap(), "it ended: {}", role.running.complaints());
        assert!(std::time::Instant::now() < deadline, "{said:?} instead of {wanted}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn records(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{{\"user\": \"u{}\"}}", at % 7)).collect()
}

#[test]
fn a_topic_that_is_gone_or_another_is_told_and_never_read_as_new() {
    let (broker, directory) = (Broker::start().unwrap(), tempfile::tempdir().unwrap());
    let manifest = manifest(&directory, &broker);
    let checked = crds::check(&fs::read_to_string(&manifest).unwrap(), &[]).unwrap();
    set_up(&manifest).unwrap();
    let somebody = Somebody::at(&broker);
    let page = free_address().unwrap();
    let mut serve = Role::start("serve", &manifest, &["--listen", &page]).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut ingest = Role::start("ingest", &manifest, &["--name", "made"]).unwrap();
    [&mut process, &mut ingest].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    produce(&checked, "views", 0, &records(1_000)).unwrap();
    let read = "clickstream_stream_events{outcome=\"read\",stream=\"views\"}";
    serve.wait_for_figure(read, |count| count == 1_000.0).unwrap();

    // Rows are written first, checkpoints a moment later.
    process.wait_for_figure("clickstream_checkpoint_age_seconds{epoch=\"1\",stage=\"map\"}", |age| age == 0.0).unwrap();

    somebody.deletes("views");
    wait_until_it_says(&mut process, "topic views is not there any more");
    somebody.makes("views");
    produce(&checked, "views", 0, &records(10)).unwrap();
    wait_until_it_says(&mut process, "it was processed up to 1000 or further, and its position is gone");
    assert_eq!(serve.figure(read).unwrap(), Some(1_000.0), "records of another topic were counted");
    let told = process.end_in_order().unwrap().stderr;
    let times = |what: &str| told.lines().filter(|line| line.contains(what)).count();
    assert_eq!(times("is not there any more"), 1, "{told}");
    // Once more where the topic was back before: then whatever comes next is news.
    assert!((1..=2).contains(&times("its position is gone")), "{told}");

    // An ingester cannot go on without its topic: it ends and says why.
    somebody.deletes("other");
    let ended = ingest.running.wait(PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the log has no topic `other`"), "{}", ended.stderr);
    let again =
        run(role("ingest", &manifest, &[&["--name", "made"], &UNASKED[..]].concat()).unwrap(), PATIENCE).unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("topic other is not there; `clickstream setup` makes it"), "{}", again.stderr);

    // Settings under which rows would be lost.
    somebody.makes("other");
    somebody.sets("gone.results", "cleanup.policy", "delete");
    let told = "gone.results: cleanup.policy is delete, not compact";
    let refused = run(role("process", &manifest, &UNASKED).unwrap(), PATIENCE).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    serve.end_in_order().unwrap();
}
