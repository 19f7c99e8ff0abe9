//! From which checkpoint a task starts: facts in, decision out.

/// A checkpoint that was found in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The next offset of its task.
    pub position: u64,
    /// Who wrote it; later processes have larger ones.
    pub generation: u64,
    /// Every chunk is there and its checksum is right.
    pub complete: bool,
}

/// What is known when a task starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The offset up to which the task's outputs were committed.
    pub committed: u64,
    /// The first offset of the task's input that is still in the log.
    pub log_start: u64,
    /// Every checkpoint in the store, readable or not.
    pub checkpoints: Vec<Found>,
}

/// What the task may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Read this checkpoint, replay the input from its position to the committed offset without output, go on. If its bytes
    /// turn out not to be a state after all, decide again without it.
    Restore(Found),
    /// Start empty and replay the input from its first offset to the committed one without output: nothing of it is gone.
    Fresh,
    /// Stop. Input that no readable checkpoint covers is gone; starting empty would give wrong tables.
    StateLost {
        /// The first offset that is still there.
        log_start: u64,
    },
}

/// Decides.
///
/// Of the complete checkpoints at or below the committed offset, whose following input is all still there, the largest
/// position wins, not the last one written: a process that was believed dead may have written later. One beyond
/// the committed offset was made from a commit that never happened.
#[must_use]
pub fn decide(facts: &Facts) -> Decision {
    let usable =
        |found: &&Found| found.complete && found.position <= facts.committed && found.position >= facts.log_start;
    match facts.checkpoints.iter().filter(usable).max_by_key(|found| (found.position, found.generation)) {
        Some(found) => Decision::Restore(*found),
        None if facts.log_start == 0 => Decision::Fresh,
        None => Decision::StateLost { log_start: facts.log_start },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_whole_checkpoint_that_was_committed_wins() {
        let found = |position, generation, complete| Found { position, generation, complete };
        let check = |committed, log_start, checkpoints: &[Found], want| {
            let facts = Facts { committed, log_start, checkpoints: checkpoints.to_vec() };
            assert_eq!(decide(&facts), want, "{facts:?}");
        };
        let (old, new) = (found(10, 1, true), found(20, 2, true));
        check(0, 0, &[], Decision::Fresh);
        check(25, 0, &[old, new], Decision::Restore(new));
        check(20, 0, &[new, old], Decision::Restore(new));
        check(19, 0, &[old, new], Decision::Restore(old));
        check(25, 0, &[old, found(20, 2, false)], Decision::Restore(old));
        check(25, 0, &[found(20, 2, false)], Decision::Fresh);
        check(25, 15, &[old], Decision::StateLost { log_start: 15 });
        check(25, 15, &[old, new], Decision::Restore(new));
        check(25, 0, &[new, found(20, 3, true)], Decision::Restore(found(20, 3, true)));
    }
}
