//! Objects of a bucket: what a sink keeps in S3, or in what speaks like it.
//!
//! An object is there whole or not at all, which is what a rename is to a directory. Calls wait: a sink is a thread, and
//! writes one file at a time; so is who writes checkpoints. Datasets are read in pieces, a request for each: a connection
//! that is kept open while a slow pace is kept would be closed.

use std::{
    io::{self, Cursor, Read},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    buffered::BufWriter,
    path::{Path as Key, PathPart},
};
use tokio::{
    io::{AsyncWriteExt as _, copy},
    runtime::{Builder, Runtime},
};

use crate::{
    cli::Mistake,
    ingest::Remote,
    limits,
    secrets::Secrets,
    sink::parquet::{FileError, Shelf},
};

/// Keys of the secret; each may be left out, and then comes from the environment, as AWS's own tools read it.
const KEYS: [(&str, AmazonS3ConfigKey); 5] = [
    ("accessKeyId", AmazonS3ConfigKey::AccessKeyId),
    ("secretAccessKey", AmazonS3ConfigKey::SecretAccessKey),
    ("sessionToken", AmazonS3ConfigKey::Token),
    ("endpoint", AmazonS3ConfigKey::Endpoint),
    ("region", AmazonS3ConfigKey::Region),
];

/// A prefix of a bucket.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    runtime: Arc<Runtime>,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    action: &'static str,
    object: &Key,
) -> impl FnOnce(E) -> FileError {
    let name = object.to_string();
    move |source| FileError::Shelf { action, name, source: source.into() }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What the store shows of itself may hold credentials.
        write!(f, "objects below {}", self.prefix)
    }
}

impl Objects {
    /// Whether a path of the manifest means a bucket.
    #[must_use]
    pub fn is_url(path: &str) -> bool {
        path.contains("://")
    }

    /// Reads `s3://bucket/prefix/`. Nothing is connected yet.
    ///
    /// # Errors
    /// A [`Mistake`] where it is another scheme, or the secret cannot be used.
    pub fn open(url: &str, secret: Option<&str>, secrets: &Secrets) -> Result<Self, Mistake> {
        Self::open_for(limits::OBJECT_RETRY_MAX, url, secret, secrets)
    }

    /// As [`Objects::open`], for one who tries a request again for no longer than `patience`.
    ///
    /// # Errors
    /// As [`Objects::open`].
    pub fn open_for(patience: Duration, url: &str, secret: Option<&str>, secrets: &Secrets) -> Result<Self, Mistake> {
        let rest = url.strip_prefix("s3://");
        let rest = rest.ok_or_else(|| Mistake(format!("{url}: a bucket is named s3://bucket/prefix/")))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let wrong = |error: &dyn std::fmt::Display| Mistake(format!("{url}: {error}"));
        let prefix = Key::parse(prefix.trim_matches('/')).map_err(|error| wrong(&error))?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let mut options = ClientOptions::new();
        if let Some(secret) = secret {
            for (name, key) in KEYS {
                if let Some(value) = secrets.optional(secret, name)? {
                    builder = builder.with_config(key, value);
                }
            }
            if let Some(authority) = secrets.optional(secret, "ca.crt")? {
                let certificate = Certificate::from_pem(authority.as_bytes()).map_err(|error| wrong(&error))?;
                options = options.with_root_certificate(certificate);
            }
        }
        // An endpoint without TLS is one that somebody wrote down so: in a cluster, beside the pod.
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        options = options.with_allow_http(endpoint.starts_with("http://"));
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: usize::MAX, retry_timeout: patience };
        let store = builder.with_client_options(options).with_retry(retry).build().map_err(|error| wrong(&error))?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| wrong(&error))?;
        Ok(Self { store: Arc::new(store), prefix, runtime: Arc::new(runtime) })
    }

    /// Objects below a name of this prefix.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { prefix: self.key(name), ..self.clone() }
    }

    /// Brings an object into a file.
    ///
    /// # Errors
    /// When it does not come whole.
    pub fn fetch(&self, name: &str, file: &Path) -> Result<(), FileError> {
        let key = self.key(name);
        let fetched = self.runtime.block_on(async {
            let mut parts = self.store.get(&key).await?.into_stream();
            let mut to = tokio::fs::File::create(file).await?;
            while let Some(part) = parts.try_next().await? {
                to.write_all(&part).await?;
            }
            to.sync_all().await?;
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        });
        fetched.map_err(failed("read the object", &key))
    }

    /// Puts bytes there, in one request.
    ///
    /// # Errors
    /// When they are not.
    pub fn put_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<(), FileError> {
        let key = self.key(name);
        let put = self.runtime.block_on(self.store.put(&key, bytes.into()));
        put.map(drop).map_err(failed("write the object", &key))
    }

    /// The bytes of an object; none where it is not there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        let key = self.key(name);
        let got = self.runtime.block_on(async { self.store.get(&key).await?.bytes().await });
        match got {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read the object", &key)(error)),
        }
    }

    /// Names below the prefix, with sizes in bytes.
    fn sizes(&self) -> Result<Vec<(String, u64)>, FileError> {
        let key = &self.prefix;
        let listed = self.store.list(Some(key)).try_collect::<Vec<_>>();
        let found = self.runtime.block_on(listed).map_err(failed("list the objects below", key))?;
        let skip = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        // An object that somebody made as a folder has no name below itself.
        let named =
            found.iter().filter_map(|found| Some((found.location.as_ref().get(skip..)?.to_owned(), found.size)));
        Ok(named.collect())
    }

    fn key(&self, below: &str) -> Key {
        let parts = below.split('/').filter(|part| !part.is_empty()).map(PathPart::from);
        parts.fold(self.prefix.clone(), Key::join)
    }
}

impl Shelf for Objects {
    /// Large files are sent in parts.
    fn put(&self, name: &str, file: &Path) -> Result<(), FileError> {
        let key = self.key(name);
        let written = self.runtime.block_on(async {
            let mut from = tokio::fs::File::open(file).await?;
            let mut to = BufWriter::with_capacity(Arc::clone(&self.store), key.clone(), limits::OBJECT_PART_BYTES);
            match copy(&mut from, &mut to).await {
                Ok(_) => to.shutdown().await,
                Err(error) => {
                    // Parts without an object cost money; where this fails too, the bucket's own rules remove them.
                    let _parts_are_left = to.abort().await;
                    Err(error)
                }
            }
        });
        written.map_err(failed("write the object", &key))
    }

    fn names(&self) -> Result<Vec<String>, FileError> {
        Ok(self.sizes()?.into_iter().map(|(name, _)| name).collect())
    }

    /// One that is not there is removed already.
    fn remove(&self, name: &str) -> Result<(), FileError> {
        let key = self.key(name);
        match self.runtime.block_on(self.store.delete(&key)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete the object", &key)(error)),
        }
    }
}

impl Remote for Objects {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.sizes().map_err(io::Error::other)
    }

    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>> {
        // Others gave the name, which is as it was listed.
        let key = Key::parse(format!("{}/{name}", self.prefix).trim_start_matches('/')).map_err(io::Error::other)?;
        let facts = self.runtime.block_on(self.store.head(&key));
        let end = facts.map_err(failed("read the object", &key)).map_err(io::Error::other)?.size;
        let bytes = limits::OBJECT_PIECE_BYTES.start;
        Ok(Box::new(Pieces { objects: self.clone(), key, next: from, end, bytes, piece: Cursor::default() }))
    }
}

/// The bytes of an object, piece by piece.
struct Pieces {
    objects: Objects,
    key: Key,
    /// Where the next piece begins, and how long it is.
    next: u64,
    bytes: u64,
    end: u64,
    piece: Cursor<Vec<u8>>,
}

impl Pieces {
    fn fetch(&mut self) -> io::Result<()> {
        let wanted = self.next..self.end.min(self.next + self.bytes);
        let got = self.objects.runtime.block_on(self.objects.store.get_range(&self.key, wanted.clone()));
        let piece = Vec::from(got.map_err(failed("read the object", &self.key)).map_err(io::Error::other)?);
        if piece.len() as u64 != wanted.end - wanted.start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.next = wanted.end;
        self.bytes = (self.bytes * 2).min(limits::OBJECT_PIECE_BYTES.end);
        self.piece = Cursor::new(piece);
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.position() == self.piece.get_ref().len() as u64 && self.next < self.end {
            self.fetch()?;
        }
        self.piece.read(buffer)
    }
}
