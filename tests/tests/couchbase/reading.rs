//! Documents as an application reads them: by the official crate.

use std::{collections::BTreeMap, time::Duration};

use couchbase::{authenticator::PasswordAuthenticator, cluster::Cluster, options::cluster_options::ClusterOptions};
use serde_json::Value;
use tests::changes::{Results, texts};
use tokio::{runtime::Runtime, time::timeout};

use super::{ids, witness::Witness};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What is there of the rows, without those that were deleted.
pub fn documents(results: &Results, witness: &Witness) -> Vec<BTreeMap<String, String>> {
    let authenticator = PasswordAuthenticator::new(&witness.user, &witness.password);
    let mut rows = runtime().block_on(async {
        let connecting = Cluster::connect(&witness.url, ClusterOptions::new(authenticator.into()));
        let cluster = timeout(PATIENCE, connecting).await.unwrap().unwrap();
        let collection = cluster.bucket("shop").scope(&witness.scope).collection("sales");
        let mut rows = Vec::new();
        for id in ids(results) {
            let found = timeout(PATIENCE, collection.get(&id, None)).await.unwrap().unwrap();
            let mut document: Value = found.content_as().unwrap();
            assert_eq!(document["_key"], id.as_str());
            if document["deleted"] != Value::Bool(true) {
                document["version"] = document["_version"].take();
                rows.push(texts(&document));
            }
        }
        rows
    });
    rows.sort();
    rows
}

/// The same from inside a double.
pub fn rows_of(witness: &Witness) -> Vec<BTreeMap<String, String>> {
    let mut rows = Vec::new();
    for (id, document) in witness.held() {
        let mut value: Value = serde_json::from_slice(&document.value).unwrap();
        assert_eq!(value["_key"], id.as_str());
        if value["deleted"] != Value::Bool(true) {
            value["version"] = value["_version"].take();
            rows.push(texts(&value));
        }
    }
    rows.sort();
    rows
}
