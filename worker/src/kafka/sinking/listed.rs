//! A shelf whose names are asked for once: an archive of years has very many, and each partition begins with a look at them.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::sink::parquet::{FileError, Shelf};

/// For as long as one member has its partitions: of what it has been given, nobody else puts anything there meanwhile.
#[derive(Debug)]
pub(super) struct Listed<S> {
    shelf: S,
    /// Once somebody has asked. Written by the sink's thread alone.
    names: Mutex<Option<Vec<String>>>,
}

impl<S> Listed<S> {
    pub(super) fn new(shelf: S) -> Self {
        Self { shelf, names: Mutex::default() }
    }
}

impl<S: Shelf> Shelf for Listed<S> {
    fn put(&self, name: &str, file: &Path) -> Result<(), FileError> {
        self.shelf.put(name, file)?;
        if let Some(names) = &mut *self.names.lock().unwrap_or_else(PoisonError::into_inner) {
            names.push(name.to_owned());
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, FileError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match &*names {
            Some(names) => Ok(names.clone()),
            None => Ok(names.insert(self.shelf.names()?).clone()),
        }
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        self.shelf.remove(name)?;
        if let Some(names) = &mut *self.names.lock().unwrap_or_else(PoisonError::into_inner) {
            names.retain(|known| known != name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how often it is asked for its names.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Shelf for Counting {
        fn put(&self, _: &str, _: &Path) -> Result<(), FileError> {
            Ok(())
        }

        fn names(&self) -> Result<Vec<String>, FileError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(vec!["a".into(), "b".into()])
        }

        fn remove(&self, _: &str) -> Result<(), FileError> {
            Ok(())
        }
    }

    #[test]
    fn it_is_asked_once_and_what_comes_and_goes_is_known() {
        let listed = Listed::new(Counting::default());
        listed.put("before", Path::new("x")).unwrap();
        assert_eq!(listed.names().unwrap(), ["a", "b"]);
        listed.put("c", Path::new("x")).unwrap();
        listed.remove("a").unwrap();
        assert_eq!(listed.names().unwrap(), ["b", "c"]);
        assert_eq!(listed.shelf.0.load(Ordering::Relaxed), 1);
    }
}
