//! What the double holds: buckets, scopes, collections, documents.

use std::collections::BTreeMap;

/// A document and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub value: Vec<u8>,
    /// Format flags, given back as they came.
    pub flags: u32,
    /// Changes with every write.
    pub cas: u64,
    /// When it should go, as it was asked for: 0 is never, up to 30 days in seconds, above that in seconds since 1970.
    pub expiry: u32,
    /// Level of its last write: 0 none, 1 majority, 3 persisted by a majority.
    pub durability: u8,
    /// How often it was written.
    pub writes: u64,
}

/// A collection.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// Documents by their ids.
    pub documents: BTreeMap<String, Document>,
    scope: String,
    name: String,
}

#[derive(Default)]
pub(super) struct Bucket {
    pub uuid: String,
    pub ram_mb: u64,
    pub replicas: u64,
    pub kind: String,
    pub manifest: u64,
    pub scopes: Vec<String>,
    pub collections: BTreeMap<u32, Collection>,
}

/// Whether something could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Making {
    Made,
    Exists,
    NoParent,
    TooBig,
}

/// Memory that a node has for buckets, in MiB.
const NODE_RAM_MB: u64 = 64 << 10;

#[derive(Default)]
pub(super) struct World {
    pub buckets: BTreeMap<String, Bucket>,
    cas: u64,
}

/// A write of a document.
pub(super) struct Write<'a> {
    pub id: &'a str,
    pub value: &'a [u8],
    pub flags: u32,
    pub expiry: u32,
    pub durability: u8,
}

impl World {
    pub(super) fn make_bucket(&mut self, name: &str, kind: &str, ram_mb: u64, replicas: u64) -> Making {
        if self.buckets.contains_key(name) {
            return Making::Exists;
        }
        if ram_mb > NODE_RAM_MB {
            return Making::TooBig;
        }
        let default = Collection { scope: "_default".into(), name: "_default".into(), ..Collection::default() };
        let bucket = Bucket {
            uuid: format!("{:032x}", self.buckets.len() + 1),
            kind: kind.into(),
            ram_mb,
            replicas,
            manifest: 1,
            scopes: vec!["_default".into()],
            collections: BTreeMap::from([(0, default)]),
        };
        self.buckets.insert(name.into(), bucket);
        Making::Made
    }

    pub(super) fn collection(&self, bucket: &str, scope: &str, name: &str) -> Option<&Collection> {
        let collections = self.buckets.get(bucket)?.collections.values();
        collections.into_iter().find(|collection| collection.scope == scope && collection.name == name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        let names = |(bucket, inside): (&String, &Bucket)| {
            let name = |collection: &Collection| format!("{bucket}.{}.{}", collection.scope, collection.name);
            inside.collections.values().map(name).collect::<Vec<String>>()
        };
        self.buckets.iter().flat_map(names).collect()
    }

    /// Writes a document whatever was there; its new CAS.
    pub(super) fn write(&mut self, bucket: &str, collection: u32, write: &Write<'_>) -> Option<u64> {
        self.cas += 1;
        let cas = self.cas;
        let documents = &mut self.buckets.get_mut(bucket)?.collections.get_mut(&collection)?.documents;
        let writes = documents.get(write.id).map_or(0, |found| found.writes) + 1;
        let Write { value, flags, expiry, durability, .. } = *write;
        documents.insert(write.id.into(), Document { value: value.into(), flags, cas, expiry, durability, writes });
        Some(cas)
    }

    /// Somebody else's write: the same content with another CAS, or one of an older writer where there is none.
    pub(super) fn race(&mut self, bucket: &str, collection: u32, id: &str) {
        let found = self.buckets.get(bucket).and_then(|bucket| bucket.collections.get(&collection));
        let found = found.and_then(|collection| collection.documents.get(id)).cloned();
        let (value, flags, expiry) = found.map_or_else(
            || (b"{\"_epoch\":0,\"_version\":0}".to_vec(), 0x0200_0000, 0),
            |found| (found.value, found.flags, found.expiry),
        );
        self.write(bucket, collection, &Write { id, value: &value, flags, expiry, durability: 0 });
    }
}

impl Bucket {
    pub(super) fn make_scope(&mut self, name: &str) -> Making {
        if self.scopes.iter().any(|scope| scope == name) {
            return Making::Exists;
        }
        self.scopes.push(name.into());
        self.manifest += 1;
        Making::Made
    }

    pub(super) fn make_collection(&mut self, scope: &str, name: &str) -> Making {
        if !self.scopes.iter().any(|found| found == scope) {
            return Making::NoParent;
        }
        if self.collection_id(scope, name).is_some() {
            return Making::Exists;
        }
        // The numbers below 8 are the server's own.
        let id = self.collections.keys().next_back().map_or(8, |last| (last + 1).max(8));
        self.collections.insert(id, Collection { scope: scope.into(), name: name.into(), ..Collection::default() });
        self.manifest += 1;
        Making::Made
    }

    pub(super) fn drop_collection(&mut self, scope: &str, name: &str) -> bool {
        let Some(id) = self.collection_id(scope, name) else { return false };
        self.collections.remove(&id);
        self.manifest += 1;
        true
    }

    pub(super) fn collection_id(&self, scope: &str, name: &str) -> Option<u32> {
        let mut all = self.collections.iter();
        all.find(|(_, collection)| collection.scope == scope && collection.name == name).map(|(id, _)| *id)
    }

    /// Numbers and names of a scope's collections.
    pub(super) fn in_scope(&self, scope: &str) -> impl Iterator<Item = (u32, &str)> {
        let of_scope = self.collections.iter().filter(move |(_, collection)| collection.scope == scope);
        of_scope.map(|(id, collection)| (*id, collection.name.as_str()))
    }
}
