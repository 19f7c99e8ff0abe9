//! What fjall says, in words for the person whose disk it is.

use engine::codec::Corrupt;

use super::EmbeddedLog;
use crate::ports::{LogError, TopicPartition};

impl EmbeddedLog {
    pub(super) fn failed(&self, action: &'static str, source: fjall::Error) -> LogError {
        LogError::Io { action, place: self.place.display().to_string(), source: plain(source) }
    }

    pub(super) fn damaged(&self, at: TopicPartition, corrupt: Corrupt) -> LogError {
        let topic = &self.topics[at.topic as usize].name;
        LogError::Damaged {
            place: self.place.display().to_string(),
            what: format!("{topic}/{}: {}", at.partition, corrupt.0),
        }
    }
}

/// The cause without fjall's wrapping.
pub(crate) fn plain(error: fjall::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => source.into(),
        fjall::Error::Poisoned => "an earlier write failed (is the disk full?); nothing that was committed is lost: \
                                   make room and start again"
            .into(),
        other => other.into(),
    }
}
