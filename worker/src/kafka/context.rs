//! What librdkafka says goes to our own log.

use rdkafka::{
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{NoCustomPartitioner, ProducerContext},
};

/// The context of clients that want nothing but to be heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged;

/// Passes a line on.
pub fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// Passes an error on that belongs to no call: brokers that went away, mostly. librdkafka tries again by itself.
pub fn error(error: &KafkaError, reason: &str) {
    // The end of a partition is news for its reader, not for people.
    if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self::error(&error, reason);
    }
}

impl ConsumerContext for Logged {}

impl ProducerContext<NoCustomPartitioner> for Logged {
    type DeliveryOpaque = ();

    /// A record that was not delivered fails its transaction, or the flush: whoever waits hears of it there.
    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
}
