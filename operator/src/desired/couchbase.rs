//! What Couchbase's own operator makes buckets, scopes and collections from, where a sink asks for that.
//!
//! These resources stand for data: whoever deletes one deletes what it stands for. So they have no owner and no step deletes
//! them, and each selects its parts by a label instead of naming them: a table that leaves the manifest leaves its collection.
//! Facts about the kinds: Couchbase Autonomous Operator 2.9, resource reference.

use std::collections::BTreeMap;

use crds::spec::{Bucket, BucketType, Couchbase, PipelineSpec, Sink};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{Object, Owner, object, secrets::volume_name};
use crate::observed::Kind;

/// The label of a scope: whose it is.
const BUCKET_LABEL: &str = "clickstream.dev/couchbase-bucket";

/// The label of a collection: whose it is.
const SCOPE_LABEL: &str = "clickstream.dev/couchbase-scope";

/// Letters of a label's value.
const LABEL_VALUE_MAX: usize = 63;

/// The scope that every bucket has.
const DEFAULT_SCOPE: &str = "_default";

/// Whether Couchbase's operator has something to do for a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CouchbaseOperator {
    /// No sink asks for it.
    #[default]
    Unasked,
    /// One does, and the cluster does not know its kinds, or the chart does not let us write them.
    Missing,
    /// One does, and it is there.
    There,
}

impl CouchbaseOperator {
    /// The kinds that are made, and therefore looked at.
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::COUCHBASE.into_iter().filter(move |_| self == Self::There)
    }
}

/// Sinks that ask for it, with their store.
pub fn asking(spec: &PipelineSpec) -> impl Iterator<Item = (&Sink, &Couchbase)> {
    let stores = spec.sinks.iter().filter_map(|sink| Some((sink, sink.couchbase.as_ref()?)));
    stores.filter(|(_, couchbase)| couchbase.operator.is_some())
}

pub(super) fn objects(owner: &Owner, spec: &PipelineSpec) -> Vec<Object> {
    if owner.couchbase != CouchbaseOperator::There {
        return Vec::new();
    }
    // Sinks may share a bucket, or a scope: what the first says of it counts.
    let mut all: BTreeMap<(Kind, String), Object> = BTreeMap::new();
    let mut add = |object: Object| {
        all.entry((object.kind, object.name.clone())).or_insert(object);
    };
    for (sink, couchbase) in asking(spec) {
        let in_bucket = label_value(format!("{}-{}", owner.name, volume_name(&couchbase.bucket.name)));
        let in_scope = label_value(format!("{in_bucket}-{}", volume_name(&couchbase.scope)));
        add(bucket(owner, couchbase, &in_bucket));
        add(scope(owner, &couchbase.scope, &in_bucket, &in_scope));
        for table in &sink.tables {
            let name = format!("{in_scope}-{}", volume_name(table));
            let rest = json!({ "spec": { "name": table } });
            add(kept(owner, Kind::CouchbaseCollection, name, rest, [(SCOPE_LABEL, &*in_scope)]));
        }
    }
    all.into_values().collect()
}

/// A name that is the value of a label as well: of one that is too long the end is a hash of the whole. One that fits stays: it is
/// the name of something that holds data.
fn label_value(name: String) -> String {
    if name.len() <= LABEL_VALUE_MAX {
        return name;
    }
    let hash = format!("{:08x}", xxh3_64(name.as_bytes()) as u32);
    let kept = name[..LABEL_VALUE_MAX - 1 - hash.len()].trim_end_matches('-');
    format!("{kept}-{hash}")
}

fn bucket(owner: &Owner, couchbase: &Couchbase, name: &str) -> Object {
    let Bucket { name: bucket, bucket_type, ram_quota, replicas } = &couchbase.bucket;
    let kind = match bucket_type {
        BucketType::Couchbase => Kind::CouchbaseBucket,
        BucketType::Ephemeral => Kind::CouchbaseEphemeralBucket,
    };
    let rest = json!({ "spec": {
        "name": bucket,
        "memoryQuota": ram_quota.to_string(),
        "replicas": replicas,
        "scopes": { "managed": true, "selector": { "matchLabels": { BUCKET_LABEL: name } } },
    }});
    let labels = couchbase.operator.iter().flat_map(|operator| &operator.labels);
    kept(owner, kind, name.to_owned(), rest, labels.map(|(name, value)| (name.as_str(), value.as_str())))
}

fn scope(owner: &Owner, scope: &str, in_bucket: &str, name: &str) -> Object {
    let which = if scope == DEFAULT_SCOPE { ("defaultScope", json!(true)) } else { ("name", json!(scope)) };
    let rest = json!({ "spec": {
        which.0: which.1,
        "collections": {
            "managed": true,
            "preserveDefaultCollection": true,
            "selector": { "matchLabels": { SCOPE_LABEL: name } },
        },
    }});
    kept(owner, Kind::CouchbaseScope, name.to_owned(), rest, [(BUCKET_LABEL, in_bucket)])
}

/// An object that outlives its pipeline.
fn kept<'a>(
    owner: &Owner,
    kind: Kind,
    name: String,
    rest: Value,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Object {
    let mut object = object(owner, kind, name, "couchbase", rest);
    let metadata = &mut object.body["metadata"];
    metadata.as_object_mut().into_iter().for_each(|metadata| drop(metadata.remove("ownerReferences")));
    for (name, value) in labels {
        metadata["labels"][name] = Value::from(value);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accepted::tests::accepted;

    fn asked(operator: CouchbaseOperator) -> Vec<Object> {
        let mut spec = accepted("category-sales").spec;
        let labels = [("cluster".to_owned(), "shop".to_owned())].into();
        for sink in &mut spec.sinks {
            let to = sink.couchbase.as_mut();
            to.into_iter()
                .for_each(|to| to.operator = Some(crds::spec::CouchbaseOperator { labels: Clone::clone(&labels) }));
        }
        let owner = Owner { couchbase: operator, ..crate::accepted::tests::owner("sales") };
        objects(&owner, &spec)
    }

    #[test]
    fn what_stands_for_data_has_no_owner_and_selects_by_label() {
        assert!(asked(CouchbaseOperator::Missing).is_empty());
        let made = asked(CouchbaseOperator::There);
        let of = |kind: Kind| made.iter().filter(|object| object.kind == kind).collect::<Vec<_>>();
        let (bucket, scope) = (of(Kind::CouchbaseBucket)[0], of(Kind::CouchbaseScope)[0]);
        assert_eq!((bucket.body["metadata"]["labels"]["cluster"].as_str(), made.len() > 2), (Some("shop"), true));
        let selects = |object: &Object, part: &str| object.body["spec"][part]["selector"]["matchLabels"].clone();
        assert_eq!(selects(bucket, "scopes")[BUCKET_LABEL], scope.body["metadata"]["labels"][BUCKET_LABEL]);
        for collection in of(Kind::CouchbaseCollection) {
            let label = &collection.body["metadata"]["labels"][SCOPE_LABEL];
            assert_eq!(selects(scope, "collections")[SCOPE_LABEL], *label);
        }
        assert!(
            made.iter()
                .all(|object| object.kind.holds_data() && object.body["metadata"].get("ownerReferences").is_none())
        );
    }

    #[test]
    fn the_longest_names_are_labels_all_the_same_and_do_not_meet() {
        let mut spec = accepted("category-sales").spec;
        let sink = spec.sinks.iter_mut().find(|sink| sink.couchbase.is_some()).unwrap();
        let operator = || Some(crds::spec::CouchbaseOperator { labels: BTreeMap::new() });
        let long = |end: &str| format!("{}{end}", "b".repeat(90));
        let to = sink.couchbase.as_mut().unwrap();
        (to.operator, to.bucket.name, to.scope) = (operator(), long("1"), long("2"));
        let mut other = sink.clone();
        other.name = "other".into();
        other.couchbase.as_mut().unwrap().scope = long("3");
        spec.sinks.push(other);
        let owner = Owner {
            couchbase: CouchbaseOperator::There,
            ..crate::accepted::tests::owner("a-pipeline-with-a-name-of-forty-letters")
        };
        let made = objects(&owner, &spec);
        let scopes = made.iter().filter(|object| object.kind == Kind::CouchbaseScope);
        assert_eq!(scopes.count(), 2, "two scopes of one bucket");
        for object in &made {
            for (name, value) in object.body["metadata"]["labels"].as_object().unwrap() {
                let value = value.as_str().unwrap();
                assert!(
                    value.len() <= 63 && value.ends_with(|last: char| last.is_ascii_alphanumeric()),
                    "{name}: {value}"
                );
            }
            assert!(object.name.len() <= 253, "{}", object.name);
        }
        assert_eq!(label_value("shop-sales".into()), "shop-sales");
    }
}
