//! Handing records to librdkafka, and what its errors mean within a transaction.

use std::time::Duration;

use rdkafka::{
    client::ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::ToBytes,
    producer::{BaseProducer, BaseRecord, ProducerContext},
};

/// How long to wait for room in the producer's queue before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Hands a record over; waits while the producer's queue is full.
///
/// # Errors
/// Where librdkafka refuses it.
pub fn enqueue<K, P, C>(producer: &BaseProducer<C>, mut record: BaseRecord<'_, K, P>) -> Result<(), KafkaError>
where
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
    C: ProducerContext<DeliveryOpaque = ()> + ClientContext,
{
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(FULL_PAUSE);
                record = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Whether somebody newer writes under the same transactional id.
#[must_use]
pub fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::FencedInstanceId
        )
    )
}
