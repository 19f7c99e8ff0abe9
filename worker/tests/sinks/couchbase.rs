//! Couchbase: a real server where `COUCHBASE_URL` (with `COUCHBASE_USER` and `COUCHBASE_PASSWORD`) says so, else the vendor's
//! mock where it lies beside the clone. Where there is neither, there is nothing to prove here.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command, time::Duration};

use couchbase::{authenticator::PasswordAuthenticator, cluster::Cluster, options::cluster_options::ClusterOptions};
use serde_json::Value;

use super::rows::{Results, prove, texts};

struct Place {
    url: String,
    user: String,
    password: String,
}

fn place(state: &Path) -> Option<Place> {
    let variable = |name: &str, otherwise: &str| env::var(name).unwrap_or_else(|_| otherwise.into());
    let mock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/couchbase/start");
    let url = match env::var("COUCHBASE_URL") {
        Ok(url) => url,
        Err(_) if mock.is_file() => {
            let started = Command::new(mock).env("COUCHBASE_MOCK_STATE", state).output().unwrap();
            String::from_utf8(started.stdout).unwrap().trim().to_owned()
        }
        Err(_) => return None,
    };
    let (user, password) = (variable("COUCHBASE_USER", "Administrator"), variable("COUCHBASE_PASSWORD", "password"));
    Some(Place { url, user, password })
}

async fn documents(place: &Place, ids: &[String]) -> Vec<BTreeMap<String, String>> {
    let authenticator = PasswordAuthenticator::new(&place.user, &place.password);
    let connecting = Cluster::connect(&place.url, ClusterOptions::new(authenticator.into()));
    let cluster = tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap().unwrap();
    let collection = cluster.bucket("shop").scope("live").collection("sales");
    let mut rows = Vec::new();
    for id in ids {
        let found = tokio::time::timeout(Duration::from_secs(20), collection.get(id, None)).await.unwrap().unwrap();
        let mut document: Value = found.content_as().unwrap();
        if document["deleted"] == Value::Bool(true) {
            continue;
        }
        document["version"] = document["_version"].take();
        rows.push(texts(&document));
    }
    rows.sort();
    rows
}

#[test]
fn documents_are_the_rows_of_the_tables_however_often_they_are_written() {
    let state = tempfile::tempdir().unwrap();
    let Some(place) = place(state.path()) else {
        println!("no Couchbase here: set COUCHBASE_URL");
        return;
    };
    let secrets = tempfile::tempdir().unwrap();
    fs::create_dir(secrets.path().join("server")).unwrap();
    for (key, value) in [("connectionString", &place.url), ("username", &place.user), ("password", &place.password)] {
        fs::write(secrets.path().join("server").join(key), value).unwrap();
    }
    let results = Results::new();
    let ids: std::collections::BTreeSet<String> = results
        .changes("couchbase", 0..results.len())
        .iter()
        .map(|change| match &change.key {
            worker::sink::row::Key::Row { id, .. } | worker::sink::row::Key::Gone { id, .. } => id.clone(),
            worker::sink::row::Key::Event { .. } => unreachable!("tables have rows"),
        })
        .collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    prove(&results, "couchbase", secrets.path(), &|| runtime.block_on(documents(&place, &ids)));
    let pid = fs::read_to_string(state.path().join("pid")).ok();
    if let Some(pid) = pid {
        drop(Command::new("kill").arg(pid.trim()).status());
    }
}
