//! A small pipeline's results: rows that change, go and come back, as the engine writes them; and the proof that a database
//! which was told them holds what the SQLite tables hold.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use engine::{
    decimal::Decimal,
    output::{Row, TableSchema, schemas},
    value::Value,
};
use serde_json::Value as Json;
use worker::{
    secrets::Secrets,
    sink::{
        database::{Connector, Database},
        row::{Change, Reader},
    },
    store::{Bounds, Format, Reader as Tables, ResultRecord, TableStore},
};

const MANIFEST: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {name: shop}
spec:
  topics: [{name: raw, partitions: 1}]
  streams:
  - name: events
    topics: [raw]
    eventTime: {field: at, outOfOrderness: 1s}
    fields:
    - {name: at, type: timestamp, required: true}
    - {name: category, type: string}
    - {name: price, type: decimal}
  tables:
  - name: sales
    from: events
    window: {tumbling: 1m}
    groupBy: [category]
    select: {revenue: sum(price), orders: count(), top: \"top(2, category)\"}
  sinks:
  - {name: postgres, tables: [sales], postgres: {connectionSecret: server, schema: shop}}
  - {name: audit, streams: [events], postgres: {connectionSecret: server, schema: shop, table: audit, mode: insertOnce}}
  - {name: redis, tables: [sales], redis: {connectionSecret: server, keyPrefix: \"shop:\"}}
  - {name: redis-brief, tables: [sales], redis: {connectionSecret: server, keyPrefix: \"shop:\", ttl: 1h}}
  - {name: redis-json, tables: [sales], redis: {connectionSecret: server, keyPrefix: \"shop:\", format: json, ttl: 1h}}
  - {name: couchbase, tables: [sales], couchbase: {connectionSecret: server, bucket: {name: shop}, scope: live}}
  - {name: durable, tables: [sales], couchbase: {connectionSecret: server, bucket: {name: shop}, scope: live, durability: majority, ttl: 40d}}
  - {name: greedy, tables: [sales], couchbase: {connectionSecret: server, bucket: {name: greedy, ramQuota: 100Gi}, scope: live}}
";

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;

/// Groups of a window; one is null, one needs care in every language.
const GROUPS: [Option<&str>; 5] = [Some("books"), None, Some("it's: 50 %\n\"ü\""), Some("zero\0"), Some("")];

impl Default for Results {
    fn default() -> Self {
        Self::new()
    }
}

/// Results with the tables that they make.
pub struct Results {
    checked: crds::Checked,
    documents: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Results {
    /// Some hundred changes of 15 rows.
    #[must_use]
    pub fn new() -> Self {
        Self::in_scope("live")
    }

    /// The same for sinks that write to another scope of Couchbase.
    #[must_use]
    pub fn in_scope(scope: &str) -> Self {
        let manifest = MANIFEST.replace("scope: live", &format!("scope: {scope}"));
        let checked = crds::check(&manifest, &[]).map_err(|problems| format!("{problems:?}")).unwrap();
        let schema = schemas(&checked.plan).remove(0);
        let (mut documents, mut keys) = (Vec::new(), Vec::new());
        for turn in 0..300_i64 {
            let (mut key, mut document) = (Vec::new(), Vec::new());
            let row = row(turn);
            row.write_key(&schema, &mut key);
            write(&row, &schema, &mut document);
            documents.push(document);
            keys.push(key);
        }
        Self { checked, documents, keys }
    }

    /// What the sink of that name is told about results with these offsets.
    #[must_use]
    pub fn changes(&self, sink: &str, offsets: std::ops::Range<usize>) -> Vec<Change> {
        let mut reader = self.reader(sink);
        offsets.filter_map(|at| reader.row(at as u64, &self.documents[at]).unwrap()).collect()
    }

    /// The reader of the sink of that name.
    #[must_use]
    pub fn reader(&self, sink: &str) -> Reader {
        Reader::new(&self.checked.plan, self.sink(sink)).unwrap()
    }

    /// A sink of the manifest.
    #[must_use]
    pub fn sink(&self, name: &str) -> &crds::spec::Sink {
        self.checked.manifest.spec.sinks.iter().find(|sink| sink.name == name).unwrap()
    }

    /// The way to the database whose secret is in `secrets`.
    #[must_use]
    pub fn connector(&self, sink: &str, secrets: &Path) -> Connector {
        let sink = self.sink(sink);
        let targets = Reader::new(&self.checked.plan, sink).unwrap().targets;
        Connector::of(sink, &targets, &Secrets::in_directory(secrets)).unwrap().unwrap()
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there are always some")]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// The SQLite tables' rows, each as its columns' texts.
    #[must_use]
    pub fn expected(&self) -> Vec<BTreeMap<String, String>> {
        let mut store = TableStore::open(None, &self.checked.plan).unwrap();
        let records = self.keys.iter().zip(&self.documents).enumerate();
        let records: Vec<_> =
            records.map(|(at, (key, document))| ResultRecord { offset: at as u64, key, document }).collect();
        store.apply(&records).unwrap();
        let tables = Tables::open(store.path()).unwrap();
        let found = tables.sql("select * from sales", Format::JsonLines, Bounds::default()).unwrap();
        let lines = found.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut rows: Vec<_> = lines.map(|line| texts(&serde_json::from_slice(line).unwrap())).collect();
        rows.sort();
        assert!(rows.len() > 8, "{rows:?}");
        rows
    }
}

/// Columns as texts; lists without spaces, null as nothing.
#[must_use]
pub fn texts(row: &Json) -> BTreeMap<String, String> {
    let text = |value: &Json| match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let columns = ["window_start", "category", "revenue", "orders", "top", "final", "version"];
    let mut texts: BTreeMap<String, String> =
        columns.iter().map(|name| ((*name).to_owned(), text(&row[*name]))).collect();
    // SQL over SQLite shows truth as a number.
    if let Some(state) = texts.get_mut("final").filter(|state| state.len() == 1) {
        *state = (*state == "1").to_string();
    }
    texts
}

/// The row that changes at this turn: now it grows, now it goes.
fn row(turn: i64) -> Row {
    let (window, group) = (START + turn % 3 * 60_000, GROUPS[(turn / 3 % 5) as usize]);
    let deleted = turn % 7 == 6;
    let group = group.map_or(Value::Null, |group| Value::String(group.into()));
    let top = Value::List([Value::List([group.clone(), Value::Integer(turn)].into())].into());
    let values = [Value::Decimal(Decimal(i128::from(turn) * 123_456_789_012)), Value::Integer(turn), top];
    Row {
        table: 0,
        window: Some((window, window + 60_000)),
        group: vec![group],
        values: if deleted { Vec::new() } else { values.to_vec() },
        is_final: turn > 200,
        deleted,
    }
}

fn write(row: &Row, schema: &TableSchema, out: &mut Vec<u8>) {
    row.write_document(schema, out);
}

/// Writes everything, then older things again; `rows` reads what is there after each. It must always be the same.
pub fn prove(results: &Results, sink: &str, secrets: &Path, rows: &dyn Fn() -> Vec<BTreeMap<String, String>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let expected = results.expected();
    runtime.block_on(async {
        let mut database = connect(results, sink, secrets).await;
        for start in (0..results.len()).step_by(40) {
            let end = (start + 40).min(results.len());
            database.write(&results.changes(sink, start..end)).await.unwrap();
        }
    });
    assert_eq!(rows(), expected, "written once");
    // Killed before it moved its offsets: the same again, in other batches, from another process.
    runtime.block_on(async {
        let mut database = connect(results, sink, secrets).await;
        database.write(&results.changes(sink, 250..results.len())).await.unwrap();
        database.write(&results.changes(sink, 0..results.len())).await.unwrap();
    });
    assert_eq!(rows(), expected, "written again");
    // A zombie writes what it still has, one at a time, and nobody comes after it.
    runtime.block_on(async {
        let mut zombie = connect(results, sink, secrets).await;
        for at in (0..150).step_by(11) {
            zombie.write(&results.changes(sink, at..at + 1)).await.unwrap();
        }
    });
    assert_eq!(rows(), expected, "older versions");
}

/// Connects as the sink does: a server that is only starting is asked again.
pub async fn connect(results: &Results, sink: &str, secrets: &Path) -> Database {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match results.connector(sink, secrets).connect().await {
            Ok(database) => return database,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
