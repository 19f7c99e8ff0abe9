//! Opening the log: the directory, its topics, and where each partition ends.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Condvar, Mutex, atomic::AtomicBool},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, config::CompressionPolicy,
};

use super::{
    Backlog, EmbeddedLog, Fsync, entry, error,
    making::Making,
    state::{self, start_key},
    topics::{OpenPartition, OpenTopic, TopicSpec},
};
use crate::{limits, ports::LogError};

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data directory {0} is in use by another `clickstream`: stop it, or choose another --data-dir")]
    Locked(String),
    /// Written by a version that knows more than this one.
    #[error("the data directory {0} was written by a newer clickstream: use that one, or choose another --data-dir")]
    Newer(String),
    /// The directory or what is in it cannot be used.
    #[error("failed to open the log in {place}")]
    Io {
        /// Directory.
        place: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log was opened and cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl EmbeddedLog {
    /// Opens or makes the log in `directory`, with these topics. Topics that are there and not named are left alone.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, specs: &[TopicSpec], fsync: Fsync) -> Result<Self, OpenError> {
        let place = directory.display().to_string();
        let failed = |source: fjall::Error| match source {
            fjall::Error::Locked => OpenError::Locked(place.clone()),
            fjall::Error::InvalidVersion(Some(_)) => OpenError::Newer(place.clone()),
            other => OpenError::Io { place: place.clone(), source: error::plain(other) },
        };
        let unusable = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked(place.clone()),
            _ => OpenError::Io { place: place.clone(), source: source.into() },
        };
        let making = Making::begin(directory).map_err(unusable)?;
        let database = Database::builder(directory)
            .journal_compression(CompressionType::None)
            .max_journaling_size(limits::JOURNAL_BYTES_MAX)
            .cache_size(limits::BLOCK_CACHE_BYTES)
            .worker_threads(2)
            .open()
            .map_err(&failed)?;
        let meta = database.keyspace("meta", small).map_err(&failed)?;
        let checkpoints = database.keyspace("checkpoints", large).map_err(&failed)?;
        let mut log = Self {
            place: directory.into(),
            database,
            meta,
            checkpoints,
            topics: Vec::new(),
            names: BTreeMap::new(),
            fsync,
            append: Mutex::new(()),
            backlog: Mutex::new(Backlog::default()),
            changes: 0.into(),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            closed: AtomicBool::new(false),
        };
        specs.iter().try_for_each(|spec| log.add_topic(spec))?;
        making.map_or(Ok(()), Making::end).map_err(unusable)?;
        Ok(log)
    }

    fn add_topic(&mut self, spec: &TopicSpec) -> Result<(), LogError> {
        let keyspace = self.database.keyspace(&format!("topic.{}", spec.name), large);
        let keyspace = keyspace.map_err(|source| self.failed("open", source))?;
        let partitions = (0..spec.partitions).map(|partition| self.find_partition(&spec.name, &keyspace, partition));
        let partitions = partitions.collect::<Result<_, _>>()?;
        self.names.insert(spec.name.clone(), self.topics.len() as u32);
        let TopicSpec { name, compress, processed, .. } = spec.clone();
        self.topics.push(OpenTopic { name, keyspace, compress, processed, partitions });
        Ok(())
    }

    fn find_partition(&self, name: &str, keyspace: &Keyspace, partition: u32) -> Result<OpenPartition, LogError> {
        let read = |source| self.failed("read", source);
        let damaged =
            |_| LogError::Damaged { place: self.place.display().to_string(), what: format!("keys of {name}") };
        let start = self.meta.get(start_key(name, partition)).map_err(read)?;
        let start = start.map(|value| state::number(&value)).transpose().map_err(damaged)?.unwrap_or_default();
        let last = keyspace.range(entry::key(partition, start)..=entry::key(partition, u64::MAX)).next_back();
        let last = last.map(fjall::Guard::key).transpose().map_err(read)?;
        let end = last.map(|key| entry::end_of(&key)).transpose().map_err(damaged)?;
        Ok(OpenPartition::new(start, end.unwrap_or_default().max(start)))
    }
}

/// Options of a keyspace for entries: values apart from keys, so that no compaction ever copies them, and not compressed
/// a second time.
pub(crate) fn large() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(limits::MEMTABLE_BYTES)
        .data_block_compression_policy(CompressionPolicy::disabled())
        .with_kv_separation(Some(KvSeparationOptions::default().compression(CompressionType::None)))
}

/// Options of a keyspace for positions and the like.
fn small() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(1 << 20)
}
