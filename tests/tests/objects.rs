//! Parquet files of a fleet in a bucket: over an S3 server that others wrote, killed sinks and all, each event is in one
//! object.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tests::{
    binary::{Running, free_address, root, run},
    kafka::Broker,
    lake::{Places, add_places},
    roles::{PATIENCE, Role, set_up},
};
use worker::{objects::Objects, secrets::Secrets, sink::parquet::Shelf as _};

const EVENTS: u64 = 20_000;

/// How long the server's installation may take, the first time.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);

struct Bucket {
    _server: Running,
    directory: tempfile::TempDir,
}

impl Bucket {
    fn start() -> Self {
        let tool = run(Command::new(root().join("tests/tools/s3")), INSTALL_TIME_MAX).unwrap();
        assert!(tool.status.success(), "{}", tool.stderr);
        let address = free_address().unwrap();
        let (host, port) = address.split_once(':').unwrap();
        let mut command = Command::new(tool.stdout.trim());
        command.args(["-H", host, "-p", port]);
        let mut server = Running::start(command).unwrap();
        server.wait_for(PATIENCE, || TcpStream::connect(&address).ok()).unwrap();
        ureq::put(format!("http://{address}/lake")).send_empty().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secrets/lake");
        fs::create_dir_all(&secret).unwrap();
        let endpoint = format!("http://{address}");
        let values =
            [("accessKeyId", "me"), ("secretAccessKey", "secret"), ("region", "eu-west-1"), ("endpoint", &endpoint)];
        values.iter().for_each(|(name, value)| fs::write(secret.join(name), value).unwrap());
        Self { _server: server, directory }
    }

    fn secrets(&self) -> PathBuf {
        self.directory.path().join("secrets")
    }

    fn sink(&self, manifest: &Path) -> Role {
        let mut command = tests::roles::role("sink", manifest, &["--name", "lake"]).unwrap();
        let health = free_address().unwrap();
        command.args(["--health-listen", &health]).env("CLICKSTREAM_SECRETS", self.secrets());
        Role { running: Running::start(command).unwrap(), health }
    }

    /// Where the rows of all objects come from.
    fn rows(&self) -> Places {
        let secrets = Secrets::in_directory(&self.secrets());
        let objects = Objects::open("s3://lake/events/", Some("lake"), &secrets).unwrap();
        let mut found = Places::new();
        for name in objects.names().unwrap() {
            assert!(name.starts_with("date=") && name.ends_with(".parquet"), "{name}");
            let file = self.directory.path().join("fetched");
            objects.fetch(&name, &file).unwrap();
            add_places(&file, &mut found).unwrap();
        }
        found
    }
}

fn manifest(directory: &Path, broker: &Broker) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: lake}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: views, partitions: 2}}
  ingest:
  - name: made
    topic: views
    synthetic: {{count: {EVENTS}, eventsPerSecond: 4000, fields: {{user: {{choice: [a, b, c, d, e]}}, at: {{now: {{}}}}}}}}
  streams:
  - name: seen
    topics: [views]
    key: user
    eventTime: {{field: at, outOfOrderness: 1s}}
    fields:
    - {{name: user, type: string}}
    - {{name: at, type: timestamp}}
  sinks:
  - {{name: lake, streams: [seen], parquet: {{path: 's3://lake/events/', credentialsSecret: lake, partitionBy: date, rollEvery: 1s}}}}
",
        broker.address
    );
    let file = directory.join("lake.yaml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn each_event_is_in_one_object() {
    // As the program does for itself.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let (broker, bucket) = (Broker::start().unwrap(), Bucket::start());
    let manifest = manifest(bucket.directory.path(), &broker);
    set_up(&manifest).unwrap();
    let mut process = Role::start("process", &manifest, &["--threads", "1"]).unwrap();
    let mut sink = bucket.sink(&manifest);
    [&mut process, &mut sink].into_iter().for_each(|role| role.wait_until_ready().unwrap());
    let ingest = Role::start("ingest", &manifest, &["--name", "made", "--until-done"]).unwrap();
    for share in [10, 3] {
        let written = |records: f64| records > (EVENTS / share) as f64;
        sink.wait_for_figure("clickstream_sink_records_total", written).unwrap();
        sink.running.kill().unwrap();
        sink = bucket.sink(&manifest);
    }
    assert!(ingest.running.wait(PATIENCE).unwrap().status.success());
    sink.running.wait_for(PATIENCE, || (bucket.rows().len() as u64 >= EVENTS).then_some(())).unwrap();
    assert_eq!(bucket.rows().len() as u64, EVENTS);
    [process, sink].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}
