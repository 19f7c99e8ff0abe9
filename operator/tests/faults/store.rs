//! The objects of a cluster in memory: versions, generations, apply, deletion with everything that is owned, and the
//! controllers of Kubernetes that Jobs, pods and the garbage need.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::merge::{merge, withdraw};

/// Plural and name. There is one namespace.
pub type Key = (String, String);

/// Something that happened to an object.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    pub plural: String,
    pub type_: &'static str,
    pub object: Value,
}

/// Everything that etcd would hold.
#[derive(Clone, Default)]
pub struct Store {
    pub objects: BTreeMap<Key, Value>,
    /// What each field manager said last about each object.
    said: BTreeMap<(Key, String), Value>,
    /// Everything that happened, in order.
    pub log: Vec<Change>,
    pub version: u64,
    /// What a webhook makes of objects that are applied, by plural.
    pub webhook: Option<fn(&str, &mut Value)>,
    /// Rules that were broken.
    pub broken: Vec<String>,
}

fn without_status(object: &Value) -> Value {
    let mut object = object.clone();
    let map = object.as_object_mut().expect("objects are maps");
    map.remove("status");
    map.remove("metadata");
    object
}

impl Store {
    /// As it was so many changes ago, with the version of then: what a reader sees whom the news has not reached.
    pub fn stale(&self, changes: usize) -> (u64, Vec<(Key, Value)>) {
        let keep = self.log.len().saturating_sub(changes);
        let mut objects = BTreeMap::new();
        for change in &self.log[..keep] {
            let key = (change.plural.clone(), name(&change.object));
            match change.type_ {
                "DELETED" => drop(objects.remove(&key)),
                _ => drop(objects.insert(key, change.object.clone())),
            }
        }
        (self.log[..keep].last().map_or(0, |change| change.version), objects.into_iter().collect())
    }

    fn put(&mut self, key: &Key, mut object: Value) -> Value {
        let before = self.objects.get(key);
        if before == Some(&object) {
            return object;
        }
        self.version += 1;
        let generation = match before {
            Some(before) if without_status(before) == without_status(&object) => {
                before["metadata"]["generation"].clone()
            }
            Some(before) => json!(before["metadata"]["generation"].as_i64().unwrap_or(0) + 1),
            None => json!(1),
        };
        let metadata = &mut object["metadata"];
        metadata["generation"] = generation;
        metadata["resourceVersion"] = json!(self.version.to_string());
        if before.is_none() {
            metadata["uid"] = json!(format!("uid-{}", self.version));
            metadata["creationTimestamp"] =
                json!(format!("2026-01-01T00:{:02}:{:02}Z", self.version / 60 % 60, self.version % 60));
        }
        let type_ = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.clone(), object.clone());
        self.log.push(Change { version: self.version, plural: key.0.clone(), type_, object: object.clone() });
        object
    }

    /// What a person or another controller does: puts an object there as it is.
    pub fn change(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let mut object = self.objects.get(key).cloned().unwrap_or_else(|| json!({"metadata": {}}));
        change(&mut object);
        self.put(key, object);
    }

    /// Whether an object is there of which `manager` never said anything.
    pub fn is_of_others(&self, key: &Key, manager: &str) -> bool {
        self.objects.contains_key(key) && !self.said.contains_key(&(key.clone(), manager.to_owned()))
    }

    /// Server-side apply by `manager`, of everything but the status, or of the status alone.
    pub fn apply(&mut self, key: &Key, manager: &str, body: &Value, status: bool) -> Option<Value> {
        if status && !self.objects.contains_key(key) {
            return None;
        }
        let mut body = body.clone();
        if !status {
            body.as_object_mut()?.remove("status");
        }
        let mut object = self.objects.get(key).cloned().unwrap_or_else(|| json!({}));
        let said = self.said.entry((key.clone(), manager.to_owned())).or_insert_with(|| json!({}));
        withdraw(&mut object, said, &body);
        merge(&mut object, &body);
        *said = body;
        if let Some(webhook) = self.webhook.filter(|_| !status) {
            webhook(&key.0, &mut object);
        }
        Some(self.put(key, object))
    }

    /// A merge patch of metadata, which must name the version that it is about.
    pub fn merge(&mut self, key: &Key, body: &Value) -> Result<Value, u16> {
        let mut object = self.objects.get(key).cloned().ok_or(404_u16)?;
        let is_about = &body["metadata"]["resourceVersion"];
        if *is_about != object["metadata"]["resourceVersion"] {
            return Err(409);
        }
        merge(&mut object, body);
        Ok(self.put(key, object))
    }

    /// Deletes an object, at once or when its finalizers are gone.
    pub fn delete(&mut self, key: &Key) -> bool {
        let Some(object) = self.objects.get(key) else { return false };
        if object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty()) {
            let now = json!(jiff::Timestamp::now().to_string());
            self.change(key, |object| object["metadata"]["deletionTimestamp"] = now);
            return true;
        }
        if key.0 == "configmaps"
            && self.objects.iter().any(|((plural, _), other)| {
                plural == "deployments" && other["spec"]["template"].to_string().contains(&format!("\"{}\"", key.1))
            })
        {
            self.broken.push(format!("{} was deleted while pods mount it", key.1));
        }
        self.remove(key);
        true
    }

    /// Who had the finalizer went only after a Job had done its work, while no pod ran.
    fn check_deletion(&mut self, key: &Key) {
        let is_done = |change: &&Change| {
            change.plural == "jobs"
                && name(&change.object).contains("-delete-")
                && change.object["status"]["conditions"][0]["type"] == "Complete"
        };
        if !self.log.iter().any(|change| is_done(&change)) {
            self.broken.push(format!("{} went before its data", key.1));
        }
        let runs = |(key, object): (&Key, &Value)| key.0 == "deployments" && object["status"]["replicas"] != 0;
        if self.objects.iter().any(runs) {
            self.broken.push(format!("{} went while pods ran", key.1));
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(mut object) = self.objects.remove(key) else { return };
        self.said.retain(|(said, _), _| said != key);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log.push(Change { version: self.version, plural: key.0.clone(), type_: "DELETED", object });
    }

    /// Lets the cluster's own controllers do one round of work: Jobs end well, pods become ready, what nobody owns goes.
    pub fn play(&mut self) {
        let keys: Vec<Key> = self.objects.keys().cloned().collect();
        for key in keys {
            let Some(object) = self.objects.get(&key).cloned() else { continue };
            let owner = &object["metadata"]["ownerReferences"][0]["uid"];
            if !owner.is_null() && !self.objects.values().any(|other| other["metadata"]["uid"] == *owner) {
                self.remove(&key);
                continue;
            }
            let finalizers = object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
            if !object["metadata"]["deletionTimestamp"].is_null() && finalizers == 0 {
                self.check_deletion(&key);
                self.remove(&key);
                continue;
            }
            match key.0.as_str() {
                "jobs" if object["status"].is_null() => self.change(&key, |job| {
                    job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
                }),
                "deployments" if object["status"]["observedGeneration"] != object["metadata"]["generation"] => {
                    let (replicas, generation) = (&object["spec"]["replicas"], &object["metadata"]["generation"]);
                    self.change(&key, |deployment| {
                        deployment["status"] = json!({
                            "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                            "readyReplicas": replicas,
                        });
                    });
                }
                _ => {}
            }
        }
    }

    /// Everything that should not depend on what went wrong on the way.
    pub fn end_state(&self) -> BTreeMap<Key, Value> {
        let strip = |object: &Value| {
            let mut object = object.clone();
            let metadata = object["metadata"].as_object_mut().expect("objects have metadata");
            for name in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
                metadata.remove(name);
            }
            if let Some(status) = object["status"].as_object_mut() {
                status.remove("observedGeneration");
                // It tells when it was decided: what another leader decides later it tells otherwise.
                if let Some(process) = status.get_mut("process").and_then(Value::as_object_mut) {
                    process.remove("scaling");
                }
            }
            for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition["lastTransitionTime"] = Value::Null;
            }
            object
        };
        self.objects.iter().map(|(key, object)| (key.clone(), strip(object))).collect()
    }
}

/// An object's name.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
