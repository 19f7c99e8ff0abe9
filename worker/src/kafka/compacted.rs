//! Compacted topics read whole: the last word on every key.

use std::time::{Duration, Instant};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};

use super::{
    client::{Cluster, failed},
    connection::Connection,
    context::Logged,
    unread::Unread,
};
use crate::ports::LogError;

/// How long a topic may say nothing while it is read.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Whether to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    On,
    /// Enough was seen.
    Stop,
}

/// Calls `each` with key and value (none where it was deleted) of every committed record in `partitions` of `topic`, in
/// order within a partition, up to the end as it is now.
///
/// # Errors
/// Where the topic cannot be read, or says nothing for long.
pub fn read_all(
    cluster: &Cluster,
    topic: &str,
    partitions: &[u32],
    mut each: impl FnMut(u32, &[u8], Option<&[u8]>),
) -> Result<(), LogError> {
    read_from(cluster, topic, partitions, Offset::Beginning, |message| {
        each(message.partition() as u32, message.key().unwrap_or_default(), message.payload());
        Flow::On
    })
}

/// Calls `each` with every committed record in `partitions` of `topic` from `from` on, in order within a partition, up to
/// the end as it is now or until it says stop.
///
/// # Errors
/// As [`read_all`].
pub fn read_from(
    cluster: &Cluster,
    topic: &str,
    partitions: &[u32],
    from: Offset,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Flow,
) -> Result<(), LogError> {
    let wrong = |error| failed("read", topic, error);
    let mut config = cluster.consumer("clickstream-readers");
    config.set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", "10");
    let consumer: Connection<BaseConsumer<Logged>> = cluster.create(&config)?;
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        assignment.add_partition_offset(topic, *partition as i32, from).map_err(wrong)?;
    }
    consumer.assign(&assignment).map_err(wrong)?;
    let mut heard = Instant::now();
    let mut unread = Unread::default();
    loop {
        if !unread.is_known() {
            let places = partitions.iter().map(|partition| (topic.to_owned(), *partition as i32));
            // Whoever does not answer is asked again, and may be silent for as long as readers wait.
            drop(unread.ask(&consumer, places));
        }
        if unread.is_empty() {
            return Ok(());
        }
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) if unread.read(&message) && each(&message) == Flow::Stop => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => unread.ended(partition),
            Some(Err(error)) if heard.elapsed() > SILENCE_MAX => return Err(wrong(error)),
            Some(Err(_)) => continue,
            None if heard.elapsed() > SILENCE_MAX => {
                let silent = rdkafka::types::RDKafkaErrorCode::OperationTimedOut;
                return Err(wrong(KafkaError::MessageConsumption(silent)));
            }
            None => continue,
        }
        heard = Instant::now();
    }
}
