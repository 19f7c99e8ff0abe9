//! A checkpoint store that tears, flips and loses what it is given.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::log::Task;
use crate::random::Random;

/// Checkpoints that are kept for each task.
pub const KEPT: usize = 3;

/// A checkpoint as it was stored.
#[derive(Clone, Debug)]
struct Stored {
    position: u64,
    generation: u64,
    bytes: Vec<u8>,
    checksum: u64,
}

impl Stored {
    fn is_readable(&self) -> bool {
        xxh3_64(&self.bytes) == self.checksum
    }
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints(BTreeMap<Task, Vec<Stored>>);

impl Checkpoints {
    /// Writes a checkpoint; `faulty` ones may end up torn or corrupt, or not at all. Keeps the newest few.
    pub fn write(
        &mut self,
        task: Task,
        position: u64,
        generation: u64,
        bytes: Vec<u8>,
        random: &mut Random,
        faulty: bool,
    ) {
        let checksum = xxh3_64(&bytes);
        let mut stored = Stored { position, generation, bytes, checksum };
        match if faulty { random.below(20) } else { 20 } {
            0 => return,
            1 => stored.bytes.truncate(random.below(stored.bytes.len() as u64 + 1) as usize),
            2 if !stored.bytes.is_empty() => {
                let at = random.below(stored.bytes.len() as u64) as usize;
                stored.bytes[at] ^= 1 << random.below(8);
            }
            _ => {}
        }
        let all = self.0.entry(task).or_default();
        all.push(stored);
        all.sort_by_key(|stored| (stored.position, stored.generation));
        // The oldest go first, but never the last that can be read: it is what deletion trusts.
        while all.len() > KEPT {
            let readable = all.iter().filter(|stored| stored.is_readable()).count();
            let spare = all.iter().position(|stored| !stored.is_readable() || readable > 1).unwrap_or_default();
            all.remove(spare);
        }
    }

    /// The newest readable checkpoint at or below a position.
    #[must_use]
    pub fn newest(&self, task: Task, at_most: u64) -> Option<(u64, &[u8])> {
        let mut all = self.0.get(&task)?.iter();
        let newest = all.rfind(|stored| stored.position <= at_most && stored.is_readable())?;
        Some((newest.position, &newest.bytes))
    }

    /// The position below which no kept checkpoint needs input, if there is a readable one.
    #[must_use]
    pub fn oldest_readable(&self, task: Task) -> Option<u64> {
        self.0.get(&task)?.iter().find(|stored| stored.is_readable()).map(|stored| stored.position)
    }
}
