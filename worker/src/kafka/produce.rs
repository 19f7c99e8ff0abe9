//! Handing records to librdkafka, and what its errors mean within a transaction.
//!
//! Nothing here waits by `poll`: it counts in whole milliseconds and spins through what is left of the last one.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    client::ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::ToBytes,
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::context::Deliveries;

/// How long to wait for room in the producer's queue before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// How often a commit looks whether brokers have answered for its records: a round trip takes some of these.
const ANSWER_PAUSE: Duration = Duration::from_millis(1);

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
                producer.poll(Duration::ZERO);
                thread::park_timeout(FULL_PAUSE);
                record = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Waits until brokers have taken everything.
///
/// # Errors
/// Where they do not answer in time, or refused a record.
pub fn flush(producer: &BaseProducer<Deliveries>, limit: Duration) -> Result<(), KafkaError> {
    producer.flush(limit)?;
    producer.client().context().refusal().map_or(Ok(()), Err)
}

/// Commits the open transaction, after everything in it was answered.
///
/// rdkafka's own wait for the answers looks every 100 ms only, because successes make no event that would wake it
/// (`delivery.report.only.error`): no commit would be faster than that.
///
/// # Errors
/// Where answers do not come in time, or the commit is refused or unknown.
pub fn commit<C>(producer: &BaseProducer<C>, limit: Duration) -> Result<(), KafkaError>
where
    C: ProducerContext<DeliveryOpaque = ()> + ClientContext,
{
    let deadline = Instant::now() + limit;
    while let Err(error) = producer.flush(Duration::ZERO) {
        if Instant::now() >= deadline || !matches!(error, KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) {
            return Err(error);
        }
        producer.poll(Duration::ZERO);
        thread::park_timeout(ANSWER_PAUSE);
    }
    producer.commit_transaction(limit)
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
