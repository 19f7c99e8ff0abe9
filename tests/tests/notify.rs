//! People are told of a fleet's alerts, over a real Kafka: of each that the reference raises, by webhook and in a topic, also when the
//! receiver is busy, whoever tells is killed, and a table is rebuilt, of whose old alerts nobody hears again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crds::Checked;
use engine::time::rfc3339;
use serde_json::{Value, json};
use tests::{
    binary::free_address,
    kafka::{Broker, produce, raw_records, read_topic, topic_fact},
    reference::reference,
    roles::{PATIENCE, Role, get, role, set_up, wait},
};
use worker::{
    kafka::{admin::Admin, client::Cluster},
    secrets::Secrets,
};

/// 2025-03-01T09:00:00Z.
const BEGIN: u64 = 1_740_819_600;

const DELIVERED: &str = "clickstream_notifications_total{outcome=\"delivered\"}";
const FAILED: &str = "clickstream_notifications_total{outcome=\"failed\"}";

fn manifest(directory: &Path, broker: &Broker, name: &str, condition: &str) -> PathBuf {
    let text = format!(
        "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: told}}
spec:
  kafka: {{bootstrapServers: ['{}']}}
  topics:
  - {{name: sales, partitions: 1}}
  streams:
  - name: sales
    topics: [sales]
    eventTime: {{field: at, outOfOrderness: 0s}}
    fields:
    - {{name: at, type: timestamp}}
    - {{name: shop, type: string}}
    - {{name: amount, type: decimal}}
  tables:
  - name: by_minute
    from: sales
    where: {condition}
    window: {{tumbling: 1m}}
    groupBy: [shop]
    select: {{sales: count(), total: sum(amount)}}
  alerts:
  - name: busy
    table: by_minute
    when: sales >= 2
    description: more than one sale in a minute
    notify: [{{webhook: {{urlSecret: hook}}}}, {{topic: alarms}}]
  - name: unheard
    table: by_minute
    when: sales >= 2
    notify: [{{webhook: {{urlSecret: nowhere}}}}, {{topic: gone}}]
  - {{name: silent, table: by_minute, when: sales >= 2}}
",
        broker.address
    );
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file
}

fn checked(manifest: &Path) -> Checked {
    crds::check(&fs::read_to_string(manifest).unwrap(), &[]).unwrap()
}

/// Up to three sales a minute in each of three shops, and one a minute later, which closes all but its own.
fn sell(checked: &Checked, minutes: std::ops::Range<u64>) {
    let sale = |at: u64, shop: u64| format!("{{\"at\":{at},\"shop\":\"s{shop}\",\"amount\":{}.25}}", at % 7);
    let mut sales = Vec::new();
    for minute in minutes.clone() {
        for shop in 0..3 {
            sales.extend((0..(minute + shop) % 4).map(|nth| sale(BEGIN + minute * 60 + nth, shop)));
        }
    }
    sales.push(sale(BEGIN + minutes.end * 60, 0));
    produce(checked, "sales", 0, &sales).unwrap();
}

/// What somebody was told: alert, state, window, group.
type Told = BTreeSet<(String, String, String, String)>;

/// What the reference raises of `busy`, in windows from this minute on.
fn expected(checked: &Checked, from: u64) -> Told {
    let answer = reference(&checked.plan, &Vec::new(), &raw_records(checked).unwrap());
    let heard = answer.alerts.into_iter().filter(|(alert, start, _)| {
        alert == "busy" && start.is_some_and(|start| start >= ((BEGIN + from * 60) * 1000) as i64)
    });
    heard
        .map(|(alert, start, group)| (alert, "raised".into(), rfc3339(start.unwrap()), group[0].text().unwrap().into()))
        .collect()
}

fn told(messages: &[Value]) -> Told {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |message: &Value| {
        let [alert, state, window, shop] =
            [&message["alert"], &message["state"], &message["window_start"], &message["group"]["shop"]].map(text);
        (alert, state, window, shop)
    };
    messages.iter().map(one).collect()
}

/// Takes posts, except those that it is to be too busy for.
#[derive(Default)]
struct Receiver {
    busy: AtomicUsize,
    refused: AtomicUsize,
    taken: Mutex<Vec<(String, Value)>>,
}

impl Receiver {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?token=hidden", listener.local_addr().unwrap());
        let receiver = Arc::new(Self::default());
        let taking = Arc::clone(&receiver);
        std::thread::spawn(move || listener.incoming().for_each(|stream| taking.answer(stream.unwrap())));
        (receiver, url)
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // Whoever is killed says no more.
            if !matches!(reader.read_line(&mut head), Ok(1..)) {
                return;
            }
        }
        let head = head.to_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        let mut body = vec![0; header("content-length: ").parse().unwrap()];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let is_busy = self.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
        let status = if is_busy { "503 Busy" } else { "200 OK" };
        if is_busy {
            self.refused.fetch_add(1, Ordering::AcqRel);
        } else {
            let message = serde_json::from_slice(&body).unwrap();
            self.taken.lock().unwrap().push((header("idempotency-key: "), message));
        }
        drop(write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    }

    /// Each message once, whose repeats are the same.
    fn messages(&self) -> Vec<Value> {
        let taken = self.taken.lock().unwrap();
        let mut messages = BTreeMap::new();
        for (key, message) in &*taken {
            let first = messages.entry(key.clone()).or_insert_with(|| message.clone());
            assert_eq!(first, message, "{key}");
            assert_eq!(*key, format!("told/{}/{}", message["epoch"], message["version"]));
        }
        messages.into_values().collect()
    }
}

fn start_notify(manifest: &Path, url: &str) -> Role {
    let mut command = role("notify", manifest, &[]).unwrap();
    command.env("CLICKSTREAM_SECRET_HOOK_URL", url);
    let mut notify = Role::start_as(command).unwrap();
    notify.wait_until_ready().unwrap();
    notify
}

fn start(name: &str, manifest: &Path, more: &[&str]) -> Role {
    let mut role = Role::start(name, manifest, more).unwrap();
    role.wait_until_ready().unwrap();
    role
}

/// Messages in the topic, each once.
fn in_topic(checked: &Checked) -> Vec<Value> {
    let records = read_topic(checked, "alarms", 1).unwrap();
    let messages = records.into_iter().map(|record| serde_json::from_slice(&record.value.unwrap()).unwrap());
    let mut messages: Vec<Value> = messages.collect();
    let mut seen = BTreeSet::new();
    messages.retain(|message| seen.insert((message["epoch"].as_u64(), message["version"].as_u64())));
    messages
}

#[test]
fn everybody_who_is_named_hears_of_every_alert() {
    let broker = Broker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let old = manifest(directory.path(), &broker, "old.yaml", "amount >= 0");
    let before = checked(&old);
    let (receiver, url) = Receiver::start();
    set_up(&old).unwrap();
    assert_eq!(topic_fact(&before, "alarms").unwrap().unwrap().partitions, 1);
    let admin = Admin::new(&Cluster::of(&before.manifest.spec, &Secrets::from_environment()).unwrap()).unwrap();
    admin.delete_topics(&["gone"]).unwrap();
    let process = start("process", &old, &["--threads", "1"]);

    // Before anybody listens; then to somebody who is busy twice.
    sell(&before, 0..10);
    receiver.busy.store(2, Ordering::Release);
    let notify = start_notify(&old, &url);
    let all = expected(&before, 0);
    assert!(all.len() > 10, "{all:?}");
    wait("webhook", || told(&receiver.messages()), |seen| *seen == all);
    wait("topic", || told(&in_topic(&before)), |seen| *seen == all);
    assert_eq!(receiver.refused.load(Ordering::Acquire), 2);
    let messages = receiver.messages();
    assert!(messages.iter().all(|message| message["description"] == "more than one sale in a minute"), "{messages:?}");
    let row = |message: &Value| (message["row"]["sales"].as_u64() >= Some(2)) && message["row"]["total"].is_number();
    assert!(messages.iter().all(row), "{messages:?}");

    // Killed while it waits for a receiver.
    receiver.busy.store(usize::MAX, Ordering::Release);
    sell(&before, 11..40);
    wait("a refusal", || receiver.refused.load(Ordering::Acquire), |refused| *refused > 2);
    drop(notify.running.kill());
    receiver.busy.store(0, Ordering::Release);
    let mut notify = start_notify(&old, &url);
    let all = expected(&before, 0);
    wait("webhook", || told(&receiver.messages()), |seen| *seen == all);
    wait("topic", || told(&in_topic(&before)), |seen| *seen == all);
    for outcome in [DELIVERED, FAILED] {
        notify.wait_for_figure(outcome, |told| told > 0.0).unwrap();
    }
    let ended = notify.end_in_order().unwrap();
    assert!(ended.stderr.contains("alert unheard: nobody is told: secret nowhere has no `url`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("it is not there; `clickstream setup` makes it"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("token=hidden"), "addresses are secrets: {}", ended.stderr);

    // Rebuilt: what is raised from now on is told, and nothing that was.
    let new = manifest(directory.path(), &broker, "new.yaml", "amount > 1");
    let after = checked(&new);
    process.end_in_order().unwrap();
    set_up(&new).unwrap();
    let notify = start_notify(&new, &url);
    let page = free_address().unwrap();
    let (process, serve) = (start("process", &new, &["--threads", "1"]), start("serve", &new, &["--listen", &page]));
    let epoch = || get(&page, "/api/v1/tables").unwrap_or_default()["tables"][0]["epoch"].clone();
    wait("the new epoch", epoch, |epoch| *epoch == json!(2));
    sell(&after, 41..50);
    let newer = expected(&after, 41);
    assert!(newer.len() > 8 && newer != expected(&before, 41), "{newer:?}");
    let of_two =
        |messages: Vec<Value>| told(&messages.into_iter().filter(|told| told["epoch"] == 2).collect::<Vec<_>>());
    wait("webhook", || of_two(receiver.messages()), |seen| seen.is_superset(&newer));
    wait("topic", || of_two(in_topic(&after)), |seen| seen.is_superset(&newer));
    assert_eq!((of_two(receiver.messages()), of_two(in_topic(&after))), (newer.clone(), newer));
    [process, serve, notify].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
}

#[test]
fn tables_that_are_new_are_waited_for_and_nobody_to_be_told_is_a_mistake() {
    let broker = Broker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = manifest(directory.path(), &broker, "some.yaml", "amount >= 0");
    set_up(&file).unwrap();
    // Nobody has processed anything: there is nothing to subscribe to yet.
    let waits = || {
        let mut notify = Role::start("notify", &file, &[]).unwrap();
        notify.wait_until_unready().unwrap();
        notify
    };
    waits().end_in_order().unwrap();
    let mut notify = waits();
    let process = start("process", &file, &["--threads", "1"]);
    notify.wait_until_ready().unwrap();
    [process, notify].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));

    let text = fs::read_to_string(&file).unwrap();
    let kept = text.lines().filter(|line| !line.contains("notify:")).collect::<Vec<_>>().join("\n");
    fs::write(&file, kept).unwrap();
    set_up(&file).unwrap();
    let ended = Role::start("notify", &file, &[]).unwrap().running.wait(PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("none of them says whom to `notify`"), "{}", ended.stderr);
}
