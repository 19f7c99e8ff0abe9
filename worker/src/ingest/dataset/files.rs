//! Which files a dataset's `path` means, and their bytes, decompressed.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::DatasetError;
use crate::ingest::limits::READ_BYTES;

/// Files of a dataset with a name that tells them apart over restarts: the path as the manifest writes it.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// The path as written in the manifest, with the directory's entry or the wildcard filled in.
    pub name: String,
    /// Its size, compressed.
    pub bytes: u64,
    lies: Lies,
}

/// Where a file lies.
#[derive(Clone, Debug)]
enum Lies {
    /// On this machine.
    Here(PathBuf),
    /// Elsewhere, under this name.
    There(Arc<dyn Remote>, String),
}

/// Files that lie on no disk of this machine.
pub trait Remote: std::fmt::Debug + Send + Sync {
    /// Names and sizes of all there are.
    ///
    /// # Errors
    /// Where nobody answers.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// The bytes of one behind the first `from`.
    ///
    /// # Errors
    /// Where it is not there, or nobody answers.
    fn open(&self, name: &str, from: u64) -> io::Result<Bytes>;
}

/// Lists the files that `path` means, in the order of their names: one file, the files of a directory (hidden ones
/// and those with another ending are left out), or all that match `*` and `?`.
///
/// # Errors
/// Where there is no such file, or none in the directory.
pub fn list(base: &Path, path: &str, extensions: &[&str]) -> Result<Vec<DataFile>, DatasetError> {
    let mut files = Vec::new();
    if path.contains(['*', '?']) {
        let (root, rest) = path.strip_prefix('/').map_or(("", path), |rest| ("/", rest));
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        matching(base, root, &parts, &mut files)?;
        if files.is_empty() {
            return Err(DatasetError::NoFiles { path: path.into(), wanted: "no file matches".into() });
        }
    } else {
        let whole = base.join(path);
        let facts = fs::metadata(&whole).map_err(|source| DatasetError::Open { file: path.into(), source })?;
        if facts.is_dir() {
            directory(&whole, path, extensions, &mut files)?;
        } else {
            files.push(DataFile { name: path.into(), lies: Lies::Here(whole), bytes: facts.len() });
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Lists the files of `remote`, which the manifest calls `path`, in the order of their names: all below it but hidden ones and
/// those with another ending.
///
/// # Errors
/// Where there is none, or nobody answers.
pub fn list_remote(remote: &Arc<dyn Remote>, path: &str, extensions: &[&str]) -> Result<Vec<DataFile>, DatasetError> {
    if path.contains(['*', '?']) {
        let wanted = "in an object store everything below a prefix is read; expected one without * and ?";
        return Err(DatasetError::NoFiles { path: path.into(), wanted: wanted.into() });
    }
    let all = remote.list().map_err(|source| DatasetError::Open { file: path.into(), source })?;
    let is_wanted = |name: &str| is_wanted(name.rsplit('/').next().unwrap_or(name), extensions);
    let file = |(name, bytes): (String, u64)| {
        let shown = format!("{}/{name}", path.trim_end_matches('/'));
        DataFile { name: shown, lies: Lies::There(Arc::clone(remote), name), bytes }
    };
    let mut files: Vec<DataFile> = all.into_iter().filter(|(name, _)| is_wanted(name)).map(file).collect();
    if files.is_empty() {
        let wanted = format!("no object below it ends in {} (or .gz, .zst of it)", extensions.join(", "));
        return Err(DatasetError::NoFiles { path: path.into(), wanted });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

fn is_wanted(entry: &str, extensions: &[&str]) -> bool {
    let plain = entry.trim_end_matches(".gz").trim_end_matches(".zst");
    !entry.starts_with('.') && extensions.iter().any(|extension| plain.ends_with(extension))
}

fn directory(whole: &Path, name: &str, extensions: &[&str], files: &mut Vec<DataFile>) -> Result<(), DatasetError> {
    for (entry, path, facts) in entries(whole, name)? {
        if facts.is_file() && is_wanted(&entry, extensions) {
            let name = format!("{}/{entry}", name.trim_end_matches('/'));
            files.push(DataFile { name, lies: Lies::Here(path), bytes: facts.len() });
        }
    }
    if files.is_empty() {
        let wanted = format!("the directory has no file that ends in {} (or .gz, .zst of it)", extensions.join(", "));
        return Err(DatasetError::NoFiles { path: name.into(), wanted });
    }
    Ok(())
}

fn entries(whole: &Path, name: &str) -> Result<Vec<(String, PathBuf, fs::Metadata)>, DatasetError> {
    let read = || -> io::Result<Vec<_>> {
        fs::read_dir(whole)?
            .map(|entry| {
                let path = entry?.path();
                let facts = fs::metadata(&path)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok((name, path, facts))
            })
            .collect()
    };
    read().map_err(|source| DatasetError::Open { file: name.into(), source })
}

fn matching(base: &Path, name: &str, parts: &[&str], files: &mut Vec<DataFile>) -> Result<(), DatasetError> {
    let Some((part, rest)) = parts.split_first() else { return Ok(()) };
    let join =
        |entry: &str| if name.is_empty() || name == "/" { format!("{name}{entry}") } else { format!("{name}/{entry}") };
    if !part.contains(['*', '?']) {
        let next = join(part);
        match fs::metadata(base.join(&next)) {
            Ok(facts) if facts.is_dir() => return matching(base, &next, rest, files),
            Ok(facts) if rest.is_empty() => {
                files.push(DataFile { lies: Lies::Here(base.join(&next)), name: next, bytes: facts.len() })
            }
            _ => {}
        }
        return Ok(());
    }
    let here = if name.is_empty() { "." } else { name };
    for (entry, path, facts) in entries(&base.join(name), here)? {
        let hidden = entry.starts_with('.') && !part.starts_with('.');
        if hidden || !wildcard(part.as_bytes(), entry.as_bytes()) {
            continue;
        }
        match (facts.is_dir(), rest.is_empty()) {
            (true, false) => matching(base, &join(&entry), rest, files)?,
            (false, true) => files.push(DataFile { name: join(&entry), lies: Lies::Here(path), bytes: facts.len() }),
            _ => {}
        }
    }
    Ok(())
}

/// Whether `text` matches `pattern`, in which `*` is any run of bytes and `?` one.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            wildcard(rest, text) || text.split_first().is_some_and(|(_, text)| wildcard(pattern, text))
        }
        (Some((b'?', rest)), Some((_, text))) => wildcard(rest, text),
        (Some((wanted, rest)), Some((byte, text))) => wanted == byte && wildcard(rest, text),
        _ => false,
    }
}

/// The bytes of a file, decompressed by its ending (.gz, .zst).
pub type Bytes = Box<dyn Read + Send>;

/// Opens `file` at its beginning; `taken` counts the compressed bytes that are read.
///
/// # Errors
/// As the file system says.
pub fn open(file: &DataFile, taken: Arc<AtomicU64>) -> Result<Bytes, DatasetError> {
    open_at(file, 0, taken)
}

/// Opens `file` at `position` of its decompressed bytes: a compressed file has to be read up to there.
///
/// # Errors
/// As the file system says, and where the file has become shorter than `position`.
pub fn open_at(file: &DataFile, position: u64, taken: Arc<AtomicU64>) -> Result<Bytes, DatasetError> {
    let failed = |source| DatasetError::Open { file: file.name.clone(), source };
    let shorter = |bytes| DatasetError::Shorter { file: file.name.clone(), position, bytes };
    if !file.name.ends_with(".gz") && !file.name.ends_with(".zst") {
        let inner: Bytes = match &file.lies {
            Lies::Here(path) => {
                let mut raw = File::open(path).map_err(failed)?;
                let bytes = raw.metadata().map_err(failed)?.len();
                if bytes < position {
                    return Err(shorter(bytes));
                }
                // A pipe can only be read from its beginning.
                if position > 0 {
                    raw.seek(SeekFrom::Start(position)).map_err(failed)?;
                }
                Box::new(raw)
            }
            Lies::There(..) if file.bytes < position => return Err(shorter(file.bytes)),
            Lies::There(remote, name) => remote.open(name, position).map_err(failed)?,
        };
        taken.fetch_add(position, Ordering::Relaxed);
        return Ok(Box::new(Counted { inner, taken }));
    }
    let inner: Bytes = match &file.lies {
        Lies::Here(path) => Box::new(File::open(path).map_err(failed)?),
        Lies::There(remote, name) => remote.open(name, 0).map_err(failed)?,
    };
    let raw = Counted { inner, taken };
    let mut bytes: Bytes = match file.name.ends_with(".gz") {
        true => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES / 8, raw))),
        false => Box::new(zstd::stream::read::Decoder::new(raw).map_err(failed)?),
    };
    let skipped = io::copy(&mut (&mut bytes).take(position), &mut io::sink()).map_err(failed)?;
    if skipped < position { Err(shorter(skipped)) } else { Ok(bytes) }
}

struct Counted {
    inner: Bytes,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path, path: &str) -> Result<Vec<String>, String> {
        let files = list(base, path, &[".csv"]).map_err(|error| error.to_string())?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn a_path_is_a_file_a_directory_or_a_wildcard() {
        let base = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv.gz", "c.csv.zst", "notes.txt", ".hidden.csv", "deep/x/1.csv", "deep/y/2.csv"] {
            let path = base.path().join("data").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir(base.path().join("empty")).unwrap();
        let check = |path: &str, expected: &[&str]| assert_eq!(names(base.path(), path).unwrap(), expected, "{path}");
        check("data/b.csv", &["data/b.csv"]);
        check("data/notes.txt", &["data/notes.txt"]);
        check("data", &["data/a.csv.gz", "data/b.csv", "data/c.csv.zst"]);
        check("data/", &["data/a.csv.gz", "data/b.csv", "data/c.csv.zst"]);
        check("data/?.csv*", &["data/a.csv.gz", "data/b.csv", "data/c.csv.zst"]);
        check("data/deep/*/*.csv", &["data/deep/x/1.csv", "data/deep/y/2.csv"]);
        check("*/deep/y/2.csv", &["data/deep/y/2.csv"]);
        let whole = base.path().join("data/*.csv").to_string_lossy().into_owned();
        check(&whole, &[&base.path().join("data/b.csv").to_string_lossy()]);
        let refused = |path: &str, part: &str| {
            let error = names(base.path(), path).unwrap_err();
            assert!(error.contains(path) && error.contains(part), "{error}");
        };
        refused("data/missing.csv", "failed to open");
        refused("data/*.tsv", "no file matches");
        refused("empty", "no file that ends in .csv");
    }
}
