//! What librdkafka says goes to our own log, each thing once: in an outage every client says the same every few seconds.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

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

/// How long something that was said is not said again.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// Different things that are remembered as said: lines of some hundred bytes.
const SAID_MAX: usize = 256;

/// What was said, without its figures, and when. Written by whoever is about to say something.
static SAID: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// Whether nobody in this process has said this lately. Figures do not count: ports, times and numbers of brokers differ
/// from line to line.
#[must_use]
pub fn is_news(line: &str) -> bool {
    let (line, _) = line.split_once(" (after ").unwrap_or((line, ""));
    let line: String = line.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    said.retain(|_, at| now.duration_since(*at) < SAY_AGAIN_AFTER);
    if said.contains_key(&line) {
        return false;
    }
    if said.len() >= SAID_MAX {
        said.clear();
    }
    said.insert(line, now);
    true
}

/// Forgets what was said: the brokers answer again, and whatever comes next is news.
pub fn forget_news() {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Passes a line on.
pub fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    // The name of the thread that says it stands before it.
    let told = line.split_once("]: ").map_or(line, |(_, told)| told);
    let level = if is_news(told) { level } else { RDKafkaLogLevel::Debug };
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
    if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) && is_news(reason) {
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

/// The context of producers without transactions: nothing else says that a broker refused a record, a flush succeeds all
/// the same.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// The first refusal that nobody has asked for yet. Written when deliveries are reported, which a flush does.
    refused: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    /// Why a record was not delivered since this was last asked, if one was not.
    pub fn refusal(&self) -> Option<KafkaError> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self::error(&error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_client_says_every_few_seconds_is_said_once() {
        let refused =
            "10.0.0.1:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
        let again = "10.0.0.2:9092/2: Connect to ipv4#10.0.0.2:9092 failed: Connection refused (after 3ms in state CONNECT, \
                     1 identical error(s) suppressed)";
        assert!(is_news(refused));
        assert!(!is_news(again));
        assert!(is_news("10.0.0.1:9092/1: SASL authentication error: Authentication failed"));
        forget_news();
        assert!(is_news(again));
    }
}
