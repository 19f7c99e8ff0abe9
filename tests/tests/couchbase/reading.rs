//! Documents as an application reads them: by the official crate.

use std::{collections::BTreeMap, time::Duration};

use couchbase::{
    authenticator::PasswordAuthenticator, cluster::Cluster, collection::Collection,
    options::cluster_options::ClusterOptions,
};
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
    let mut rows = Vec::new();
    runtime().block_on(async {
        let (_cluster, collection) = open(witness).await;
        for id in ids(results) {
            let mut document = read(&collection, &id).await;
            assert_eq!(document["_key"], id.as_str());
            if document["deleted"] != Value::Bool(true) {
                document["version"] = document["_version"].take();
                rows.push(texts(&document));
            }
        }
    });
    rows.sort();
    rows
}

/// One document.
pub fn document(witness: &Witness, id: &str) -> Value {
    runtime().block_on(async {
        let (_cluster, collection) = open(witness).await;
        read(&collection, id).await
    })
}

async fn open(witness: &Witness) -> (Cluster, Collection) {
    let authenticator = PasswordAuthenticator::new(&witness.user, &witness.password);
    let connecting = Cluster::connect(&witness.url, ClusterOptions::new(authenticator.into()));
    let cluster = timeout(PATIENCE, connecting).await.unwrap().unwrap();
    let collection = cluster.bucket("shop").scope(&witness.scope).collection("sales");
    (cluster, collection)
}

async fn read(collection: &Collection, id: &str) -> Value {
    timeout(PATIENCE, collection.get(id, None)).await.unwrap().unwrap().content_as().unwrap()
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
