//! Partitions read as batches. One of three modules with `unsafe`: rdkafka's safe interface hands over single messages only.
//!
//! Audit, once for the whole module:
//! - A queue is made for a partition of a living consumer and destroyed before that consumer, which an [`Arc`] keeps alive.
//! - Where a partition ends is read from what that client remembers: nothing is kept of the pointers it is given.
//! - librdkafka fills the array with at most as many messages as it is told there is room for; each is ours from then on
//!   and destroyed once, after its bytes were copied. Payload and length belong together; a null payload has length 0.
//! - Events about a partition's end must be off (`enable.partition.eof`): librdkafka 2.12 takes one in a batch for a record,
//!   and after the next rebalance, when it goes on from the application's position, it leaves out the record behind it.
//! - Nothing here crosses threads: raw pointers make the type neither `Send` nor `Sync`.
#![expect(unsafe_code, reason = "batch consume stands only in librdkafka's C interface; see the audit above")]

use std::{ffi::CString, ptr, ptr::NonNull, slice, sync::Arc};

use engine::batch::RawBatch;
use rdkafka::{
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::RDKafkaErrorCode,
    types::RDKafkaRespErr,
};
use rdkafka_sys as native;

use super::connection::Connection;
use crate::low;

/// Messages taken at once: pointers to them are 32 KiB.
const MESSAGES_MAX: usize = 4_096;

/// What a look into the queue brought, besides records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The position lies before the log's first record, or behind its last: somebody must say where to go on.
    pub out_of_range: bool,
    /// Something else went wrong; librdkafka tries again by itself.
    pub trouble: Option<RDKafkaErrorCode>,
}

/// The records of one partition, apart from those of others.
pub struct PartitionQueue<C: ConsumerContext> {
    queue: NonNull<native::rd_kafka_queue_t>,
    messages: Vec<*mut native::rd_kafka_message_t>,
    topic: CString,
    partition: i32,
    consumer: Arc<Connection<BaseConsumer<C>>>,
}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// Splits the partition from what `consumer` polls. Before it is assigned: records that were fetched already stay where
    /// they are.
    ///
    /// # Panics
    /// If the topic's name holds a zero byte, which no topic's does.
    #[must_use]
    pub fn split(consumer: &Arc<Connection<BaseConsumer<C>>>, topic: &str, partition: u32) -> Self {
        let topic = CString::new(topic).expect("names of topics have no zero bytes");
        // SAFETY: the client lives; the name is a C string that outlives the call. A null target ends forwarding.
        let queue = unsafe {
            let queue =
                native::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition as i32);
            native::rd_kafka_queue_forward(queue, ptr::null_mut());
            queue
        };
        let queue = NonNull::new(queue).expect("a partition of a consumer always has a queue");
        let (messages, partition) = (vec![ptr::null_mut(); MESSAGES_MAX], partition as i32);
        Self { queue, messages, topic, partition, consumer: Arc::clone(consumer) }
    }

    /// Where the partition ended when its broker last sent something of it; nothing before that.
    #[must_use]
    pub fn known_end(&self) -> Option<u64> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: the client lives, the name is a C string of ours, and both numbers are there to be written.
        let error = unsafe {
            let client = self.consumer.client().native_ptr();
            native::rd_kafka_get_watermark_offsets(client, self.topic.as_ptr(), self.partition, &mut low, &mut high)
        };
        let is_known = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        u64::try_from(high).ok().filter(|_| is_known)
    }

    /// Appends what is there to `batch`, up to about `bytes_max`, without waiting.
    pub fn take(&mut self, batch: &mut RawBatch, bytes_max: usize) -> Taken {
        let mut taken = Taken::default();
        while batch.bytes.len() < bytes_max {
            // SAFETY: the array has room for as many pointers as we say.
            let count = unsafe {
                native::rd_kafka_consume_batch_queue(
                    self.queue.as_ptr(),
                    0,
                    self.messages.as_mut_ptr(),
                    self.messages.len(),
                )
            };
            let count = usize::try_from(count).unwrap_or(0);
            for message in &self.messages[..count] {
                // SAFETY: librdkafka gave us this message, and it is destroyed only below.
                unsafe {
                    receive(&**message, batch, &mut taken);
                    native::rd_kafka_message_destroy(*message);
                }
            }
            if count < self.messages.len() {
                break;
            }
        }
        taken
    }
}

/// Copies a message, or understands what it says instead.
///
/// # Safety
/// `message` is one that librdkafka gave out and that was not destroyed.
unsafe fn receive(message: &native::rd_kafka_message_t, batch: &mut RawBatch, taken: &mut Taken) {
    match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
            let payload = match message.payload.is_null() {
                true => &[][..],
                // SAFETY: payload and length are those of one living buffer.
                false => unsafe { slice::from_raw_parts(message.payload.cast::<u8>(), message.len) },
            };
            // SAFETY: the message lives; a null pointer says that the kind of stamp does not matter.
            let arrival = unsafe { native::rd_kafka_message_timestamp(message, ptr::null_mut()) };
            batch.push(payload, message.offset as u64, arrival.max(0));
            if !message.key.is_null() {
                // SAFETY: key and length are those of one living buffer.
                let key = unsafe { slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) };
                low::read(key).into_iter().for_each(|(field, low)| batch.bound(field, low));
            }
        }
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
        | RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => taken.out_of_range = true,
        other => taken.trouble = Some(other.into()),
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: ours since `split`, and not used again.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}
