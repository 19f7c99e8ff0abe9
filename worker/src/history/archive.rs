//! The files of a sink that archives raw records: which there are, which count, and how they come here.
//!
//! A roll is all files that cover the same offsets: one, or one for each day or hour. What lies at or behind the sink's
//! committed position may be half a roll, and does not count: the sink itself would write it again.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use crds::spec::Sink;
use engine::time::{Millis, days_from_civil};
use tempfile::TempDir;

use super::records::Records;
use crate::{cli::Mistake, objects::Objects, secrets::Secrets, sink::parquet::Shelf as _};

/// Digits of an offset in the name of a file.
const OFFSET_DIGITS: usize = 20;

/// A topic and one of its partitions.
pub type Place = (String, u32);

/// Files that cover the same offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The first offset.
    pub first: u64,
    /// The last offset.
    pub last: u64,
    /// Names below the archive's path, with `/`.
    pub names: Vec<String>,
}

/// Everything that counts.
#[derive(Debug)]
pub struct Archive {
    shelf: Shelf,
    rolls: BTreeMap<Place, Vec<Roll>>,
    /// Objects are fetched into it, and removed once they are read.
    fetched: TempDir,
}

#[derive(Clone, Debug)]
enum Shelf {
    Directory(PathBuf),
    Bucket(Objects),
}

/// A file that can be read.
#[derive(Debug)]
pub struct Readable {
    /// Where.
    pub path: PathBuf,
    /// Removed with it, if it was fetched.
    fetched: bool,
}

impl Drop for Readable {
    fn drop(&mut self) {
        if self.fetched {
            // The directory is temporary, and goes at the end at the latest.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Archive {
    /// Looks what `sink` has of `places`, each below its committed position.
    ///
    /// # Errors
    /// A [`Mistake`] where the path cannot be used; else what the system says.
    pub fn open(sink: &Sink, secrets: &Secrets, committed: &BTreeMap<Place, u64>) -> anyhow::Result<Self> {
        let parquet = sink.parquet.as_ref().context("bug: a sink without files")?;
        let shelf = match Objects::is_url(&parquet.path) {
            true => Shelf::Bucket(Objects::open(&parquet.path, parquet.credentials_secret.as_deref(), secrets)?),
            false => Shelf::Directory(PathBuf::from(&parquet.path)),
        };
        let names = match &shelf {
            // A sink that never wrote has no directory yet.
            _ if committed.is_empty() => Vec::new(),
            Shelf::Bucket(objects) => objects.names()?,
            Shelf::Directory(directory) => listed(&sink.name, directory)?,
        };
        let fetched = tempfile::Builder::new().prefix("clickstream-archive").tempdir();
        let several = sink.streams.len() + sink.topics.len() > 1;
        let rolls = committed.iter().map(|(place, next)| {
            let below = if several { format!("{}/", place.0) } else { String::new() };
            (place.clone(), rolls(&names, &below, place, *next))
        });
        Ok(Self { shelf, rolls: rolls.collect(), fetched: fetched.context("no temporary directory")? })
    }

    /// An archive of one partition in a local directory, of which everything counts.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_directory(directory: &Path, place: &Place) -> anyhow::Result<Self> {
        let rolls = rolls(&listed("", directory)?, "", place, u64::MAX);
        let fetched = tempfile::Builder::new().prefix("clickstream-archive").tempdir();
        Ok(Self {
            shelf: Shelf::Directory(directory.to_owned()),
            rolls: BTreeMap::from([(place.clone(), rolls)]),
            fetched: fetched.context("no temporary directory")?,
        })
    }

    /// Leaves out files of days or hours that ended more than `before_ms` before the newest began. Where files lie in one
    /// directory, nobody knows without reading them, and all stay.
    pub fn leave_out(&mut self, before_ms: Millis) {
        let names = self.rolls.values().flatten().flat_map(|roll| &roll.names);
        let Some(newest) = names.filter_map(|name| began(name)).map(|(began, _)| began).max() else { return };
        let is_old = |name: &String| began(name).is_some_and(|(began, length)| began + length < newest - before_ms);
        for rolls in self.rolls.values_mut() {
            rolls.iter_mut().for_each(|roll| roll.names.retain(|name| !is_old(name)));
            rolls.retain(|roll| !roll.names.is_empty());
        }
    }

    /// Offsets that the files of all partitions cover.
    #[must_use]
    pub fn offsets(&self) -> u64 {
        self.rolls.values().flatten().map(|roll| roll.last - roll.first + 1).sum()
    }

    /// The records of a partition, in order.
    #[must_use]
    pub fn records(&self, place: &Place) -> Records<'_> {
        Records::new(self, self.rolls.get(place).cloned().map(VecDeque::from).unwrap_or_default())
    }

    /// Makes a file readable: objects are fetched.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub fn readable(&self, name: &str) -> anyhow::Result<Readable> {
        match &self.shelf {
            Shelf::Directory(directory) => Ok(Readable { path: directory.join(name), fetched: false }),
            Shelf::Bucket(objects) => {
                let path = self.fetched.path().join(name.replace('/', "_"));
                let file = Readable { path, fetched: true };
                objects.fetch(name, &file.path)?;
                Ok(file)
            }
        }
    }
}

fn listed(sink: &str, directory: &Path) -> anyhow::Result<Vec<String>> {
    if !directory.is_dir() {
        let told =
            format!("sink {sink}: {} is no directory here: replay where the sink's volume is", directory.display());
        return Err(Mistake(told).into());
    }
    let mut names = Vec::new();
    list(directory, "", &mut names)?;
    Ok(names)
}

fn list(directory: &Path, below: &str, names: &mut Vec<String>) -> anyhow::Result<()> {
    let failed = || format!("failed to read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{below}{name}/"), names)?;
        } else {
            names.push(format!("{below}{name}"));
        }
    }
    Ok(())
}

/// Rolls of a partition below a position, in order.
fn rolls(names: &[String], below: &str, (topic, partition): &Place, next: u64) -> Vec<Roll> {
    let mut found: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    for name in names {
        let file = name.strip_prefix(below).and_then(|rest| rest.rsplit('/').next());
        let reach = file.and_then(|file| file.strip_prefix(&format!("{topic}-{partition}-"))?.strip_suffix(".parquet"));
        let Some((first, last)) = reach.and_then(offsets).filter(|(_, last)| *last < next) else { continue };
        found.entry((first, last)).or_default().push(name.clone());
    }
    found.into_iter().map(|((first, last), names)| Roll { first, last, names }).collect()
}

fn offsets(reach: &str) -> Option<(u64, u64)> {
    let (first, last) = reach.split_once('-')?;
    let is_whole = first.len() == OFFSET_DIGITS && last.len() == OFFSET_DIGITS;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (is_whole && first <= last).then_some((first, last))
}

/// When the day or hour of a file began, and how long it is.
fn began(name: &str) -> Option<(Millis, Millis)> {
    let of = |key: &str| name.split('/').find_map(|part| part.strip_prefix(key));
    let mut date = of("date=")?.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let midnight = days_from_civil(year, month, day) * 86_400_000;
    match of("hour=") {
        Some(hour) => Some((midnight + hour.parse::<i64>().ok()? * 3_600_000, 3_600_000)),
        None => Some((midnight, 86_400_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(below: &str, source: &str, first: u64, last: u64) -> String {
        format!("{below}{source}-{first:020}-{last:020}.parquet")
    }

    #[test]
    fn files_of_one_partition_below_the_position_count() {
        let names = [
            name("a/date=2026-11-20/", "a-1", 0, 9),
            name("a/date=2026-11-21/", "a-1", 0, 9),
            name("a/date=2026-11-21/", "a-1", 12, 19),
            name("a/date=2026-11-21/", "a-1", 20, 29),
            name("a/", "a-11", 0, 9),
            name("b/", "a-1", 30, 39),
            "a/.a-1.tmp".into(),
            "a/a-1-3-4.parquet".into(),
        ];
        let found = rolls(&names, "a/", &("a".into(), 1), 20);
        let reaches: Vec<(u64, u64, usize)> =
            found.iter().map(|roll| (roll.first, roll.last, roll.names.len())).collect();
        assert_eq!(reaches, [(0, 9, 2), (12, 19, 1)]);
    }

    #[test]
    fn days_and_hours_are_read_from_names() {
        assert_eq!(began("date=1970-01-02/x"), Some((86_400_000, 86_400_000)));
        assert_eq!(began("t/date=1970-01-02/hour=03/x"), Some((86_400_000 + 3 * 3_600_000, 3_600_000)));
        assert_eq!(began("x"), None);
    }
}
