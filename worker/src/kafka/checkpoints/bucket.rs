//! Checkpoints in a bucket: an object for each chunk, `<epoch>/<task>/<position>.<generation>/<chunk>-<of>`. An object is
//! there whole or not at all, so that a list tells which checkpoints are.

use super::{Id, Kept, Stored};
use crate::{
    objects::Objects,
    ports::LogError,
    sink::parquet::{FileError, Shelf as _},
};

/// A place in a bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket(Objects);

fn failed(action: &'static str) -> impl FnOnce(FileError) -> LogError {
    move |source| LogError::Io { action, place: "the bucket of checkpoints".into(), source: Box::new(source) }
}

fn folder((position, generation): Id) -> String {
    format!("{position:020}.{generation:020}")
}

impl Bucket {
    pub(super) fn new(objects: &Objects, epoch: &str) -> Self {
        Self(objects.below(epoch))
    }

    /// What is there of a task. Nothing is fetched yet.
    pub(super) fn read(&self, task: &str, fingerprint: u64) -> Result<Stored, LogError> {
        let mut stored = Stored { bucket: Some((self.clone(), task.to_owned(), fingerprint)), ..Stored::default() };
        for name in self.0.below(task).names().map_err(failed("read"))? {
            let Some((id, at, of)) = parse(&name) else { continue };
            let kept: &mut Kept = stored.kept.entry(id).or_default();
            kept.chunks = kept.chunks.max(at + 1);
            kept.of = Some(of);
            kept.there.insert(at, None);
        }
        Ok(stored)
    }

    /// A chunk; none where it is gone.
    pub(super) fn get(&self, task: &str, id: Id, at: u32, of: u32) -> Result<Option<Vec<u8>>, LogError> {
        self.0.below(task).get(&format!("{}/{at:05}-{of:05}", folder(id))).map_err(failed("read"))
    }

    pub(super) fn put(&self, task: &str, id: Id, (at, of): (u32, u32), chunk: Vec<u8>) -> Result<(), LogError> {
        self.0.below(task).put_bytes(&format!("{}/{at:05}-{of:05}", folder(id)), chunk).map_err(failed("write"))
    }

    /// Deletes whatever is there of one. What is gone already is fine.
    pub(super) fn delete(&self, task: &str, id: Id) -> Result<(), LogError> {
        let there = self.0.below(task).below(&folder(id));
        let names = there.names().map_err(failed("delete from"))?;
        names.iter().try_for_each(|name| there.remove(name)).map_err(failed("delete from"))
    }
}

/// The checkpoint, the chunk's number, and how many there are.
fn parse(name: &str) -> Option<(Id, u32, u32)> {
    let (folder, chunk) = name.split_once('/')?;
    let (position, generation) = folder.split_once('.')?;
    let (at, of) = chunk.split_once('-')?;
    let (at, of) = (at.parse().ok()?, of.parse().ok()?);
    (at < of).then_some(((position.parse().ok()?, generation.parse().ok()?), at, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_sort_by_position_and_are_read_back() {
        let name = format!("{}/{:05}-{:05}", folder((7, 12)), 0, 2);
        assert_eq!(parse(&name), Some(((7, 12), 0, 2)));
        assert!(folder((9, 1)) < folder((10, 0)));
        assert_eq!(["x", "1.2/3-3", "1.2/0-1/y"].map(parse), [None; 3]);
    }
}
