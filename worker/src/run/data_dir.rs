//! The data directory: whose it is, what it remembers beside the log.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use crds::{Checked, spec::PipelineSpec};
use engine::plan::Plan;
use xxhash_rust::xxh3::xxh3_64;

use super::Tokens;
use crate::{
    cli::Mistake,
    driver::Layout,
    log::{EmbeddedLog, Fsync, SharedLog},
    tell,
};

/// The manifest that filled the directory, overrides and defaults written out: for whoever looks into it later.
pub(super) const MANIFEST: &str = "manifest.json";

/// Where the process that has the directory answers.
pub(super) const ADDRESS: &str = "address";

/// An open data directory.
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// The log in it.
    pub log: SharedLog,
    /// Hash of the plan: checkpoints and messages belong to it.
    pub fingerprint: u64,
    /// Counts the processes that had it open.
    pub generation: u64,
    /// Key of the hash that hides personal fields.
    pub hash_key: [u8; 32],
    /// Removes the directory at the end, if nobody named one.
    temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// Opens `path`, or makes a temporary directory.
    ///
    /// # Errors
    /// A [`Mistake`] where the directory belongs to another pipeline or plan; else what the system says.
    pub fn open(path: Option<&Path>, checked: &Checked, fsync: Fsync) -> anyhow::Result<Self> {
        let temporary = match path {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("clickstream-").tempdir().context("no temporary directory")?),
        };
        let path = match (path, &temporary) {
            (Some(path), _) => path.to_owned(),
            (None, temporary) => temporary.as_ref().map(|directory| directory.path().to_owned()).unwrap_or_default(),
        };
        let place = path.display();
        fs::create_dir_all(&path)
            .with_context(|| format!("failed to make the data directory {place}; choose another with --data-dir"))?;
        let mut specs = Layout::specs(&checked.plan);
        specs.extend(Layout::passing(&checked.plan, &checked.manifest.spec.topics));
        let log = Arc::new(EmbeddedLog::open(&path.join("log"), &specs, fsync)?);
        let fingerprint = fingerprint(&checked.plan);
        claim(&log, &path, &checked.manifest.name, fingerprint)?;
        write_manifest(&path, checked)?;
        let generation = next_generation(&log)?;
        let hash_key = secret(&log, "hash-key")?;
        Ok(Self { path, log, fingerprint, generation, hash_key, temporary })
    }

    /// Writes down where this process answers.
    ///
    /// # Errors
    /// Where the directory cannot be written.
    pub fn publish(&self, address: SocketAddr) -> anyhow::Result<()> {
        write_whole(&self.path.join(ADDRESS), format!("http://{address}\n").as_bytes())
    }

    /// Says where everything is kept.
    pub fn announce(&self) {
        let fate =
            if self.temporary.is_some() { " (temporary: removed at the end; keep it with --data-dir)" } else { "" };
        tell::line(&format!("data directory: {}{fate}", self.path.display()));
    }

    /// A made-up token for every collector that wants a secret.
    #[must_use]
    pub fn tokens(&self, spec: &PipelineSpec) -> Tokens {
        let wants = spec
            .ingest
            .iter()
            .filter(|ingester| ingester.http.as_ref().is_some_and(|http| http.tokens_secret.is_some()));
        let token = |name: &str| {
            let digits = engine::hashing::keyed_hash(&self.hash_key, format!("token/{name}").as_bytes());
            String::from_utf8_lossy(&digits).into_owned()
        };
        wants.map(|ingester| (ingester.name.clone(), vec![token(&ingester.name)])).collect()
    }
}

/// Hash of a plan: checkpoints and messages belong to it.
#[must_use]
pub fn fingerprint(plan: &Plan) -> u64 {
    xxh3_64(format!("{plan:?}").as_bytes())
}

/// What the log remembers of whose it is.
pub(super) fn owner(pipeline: &str, fingerprint: u64) -> String {
    format!("{pipeline}\n{fingerprint:016x}")
}

fn write_manifest(path: &Path, checked: &Checked) -> anyhow::Result<()> {
    write_whole(&path.join(MANIFEST), checked.manifest.text().as_bytes())
}

/// Replaces a small file: a reader sees the old one or the new one.
fn write_whole(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, file));
    written.with_context(|| format!("failed to write {}", file.display()))
}

/// Makes sure that the directory is this pipeline's, with this plan.
fn claim(log: &EmbeddedLog, path: &Path, pipeline: &str, fingerprint: u64) -> anyhow::Result<()> {
    let owner = owner(pipeline, fingerprint);
    let Some(found) = log.remembered("owner")? else {
        return Ok(log.remember("owner", owner.as_bytes())?);
    };
    let found = String::from_utf8_lossy(&found).into_owned();
    let (name, plan) = found.split_once('\n').unwrap_or((&found, ""));
    let place = path.display();
    if name != pipeline {
        let told = format!(
            "the data directory {place} holds pipeline `{name}`, not `{pipeline}`; choose another with --data-dir"
        );
        return Err(Mistake(told).into());
    }
    if plan != format!("{fingerprint:016x}") {
        let told = format!(
            "the data directory {place} was filled by another version of the manifest `{pipeline}`: its tables cannot go on \
             under changed definitions; choose another with --data-dir, or bring the manifest back"
        );
        return Err(Mistake(told).into());
    }
    Ok(())
}

fn next_generation(log: &EmbeddedLog) -> anyhow::Result<u64> {
    let before = log.remembered("generation")?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    log.remember("generation", &(before + 1).to_be_bytes())?;
    Ok(before + 1)
}

/// A secret of this data directory, made when it is first asked for.
fn secret(log: &EmbeddedLog, name: &str) -> anyhow::Result<[u8; 32]> {
    if let Some(kept) = log.remembered(name)?.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(kept);
    }
    let mut made = [0; 32];
    let mut source = fs::File::open("/dev/urandom").context("no source of random numbers")?;
    std::io::Read::read_exact(&mut source, &mut made).context("no random numbers")?;
    log.remember(name, &made)?;
    Ok(made)
}
