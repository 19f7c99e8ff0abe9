//! A log that is being made for the first time: until it is whole, a mark lies beside it, and whoever finds the mark starts
//! over. Nothing can have been committed before.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The mark; it is locked while its maker lives.
pub(super) struct Making {
    mark: PathBuf,
    _lock: File,
}

impl Making {
    /// Marks the log in `directory` as unfinished, if it is not there yet or was never finished; what is left of that is
    /// removed. `None` if it is whole.
    ///
    /// # Errors
    /// `WouldBlock` if another process is making it; else what the system says.
    pub(super) fn begin(directory: &Path) -> io::Result<Option<Self>> {
        let mark = directory.with_extension("unfinished");
        if directory.exists() && !mark.exists() {
            return Ok(None);
        }
        let lock = File::create(&mark)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })?;
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        Ok(Some(Self { mark, _lock: lock }))
    }

    /// The log is whole.
    pub(super) fn end(self) -> io::Result<()> {
        fs::remove_file(&self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_finished_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let making = Making::begin(&log).unwrap().expect("there is no log yet");
        fs::create_dir(&log).unwrap();
        fs::write(log.join("half"), "").unwrap();
        let other = Making::begin(&log).map(|making| making.is_some());
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::WouldBlock, "its maker lives");
        drop(making);
        let making = Making::begin(&log).unwrap().expect("the mark is still there");
        assert!(!log.exists());
        fs::create_dir(&log).unwrap();
        making.end().unwrap();
        assert!(Making::begin(&log).unwrap().is_none());
        assert!(log.exists());
    }
}
