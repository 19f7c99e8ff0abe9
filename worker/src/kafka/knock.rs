//! Asks at the door: brokers that refuse a password or a certificate are told apart from brokers that are away. The first
//! is for a person to put right, the second passes.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    client::ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, NoCustomPartitioner, Producer as _, ProducerContext},
};

use super::{client::Cluster, connection::Connection, tokens::Trouble};
use crate::cli::Mistake;

/// How long the door may stay shut before it is somebody else's turn to wait: a handshake and a challenge take some
/// milliseconds, and brokers delay the answer to a wrong password.
const KNOCK_TIME_MAX: Duration = Duration::from_secs(5);

/// How long each question waits.
const ASK_TIME_MAX: Duration = Duration::from_millis(500);

/// Hears why brokers refuse us.
#[derive(Default)]
struct Listener {
    /// Written by callbacks, read after each question.
    refusal: Mutex<Option<String>>,
}

impl Listener {
    fn hear(&self, reason: &str) {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_owned());
    }

    fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Listener {
    /// What it says comes as an error too, or is no refusal.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", facility, "{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode::{Authentication, SSL, SaslAuthenticationFailed};
        let code = error.rdkafka_error_code();
        // A broker that wants a certificate lets the handshake pass, and says so in an alert afterwards.
        if matches!(code, Some(Authentication | SaslAuthenticationFailed | SSL)) || reason.contains("alert") {
            self.hear(reason);
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// Brokers let us in.
    Open,
    /// Nobody answered, for this reason: whoever needs them waits.
    Silent(String),
}

/// Connects once.
///
/// # Errors
/// A [`Mistake`] where librdkafka takes no such configuration, or brokers refuse us.
pub fn knock(cluster: &Cluster) -> Result<Door, Mistake> {
    let place = &cluster.bootstrap;
    let client: Connection<BaseProducer<Listener>> = cluster
        .open(&cluster.base(), Listener::default())
        .map_err(|error| Mistake(format!("spec.kafka: cannot connect to {place} like this: {error}")))?;
    let deadline = Instant::now() + KNOCK_TIME_MAX;
    while Instant::now() < deadline {
        let answered = client.client().fetch_metadata(None, ASK_TIME_MAX).is_ok();
        client.poll(Duration::ZERO);
        if answered {
            return Ok(Door::Open);
        }
        if let Some(Trouble::Refused(why)) = cluster.token_trouble() {
            return Err(Mistake(why));
        }
        if let Some(refusal) = client.context().refusal() {
            return Err(Mistake(format!("Kafka at {place} does not let us in: {refusal}")));
        }
    }
    let why = cluster.token_trouble().map(|trouble| trouble.to_string());
    Ok(Door::Silent(why.unwrap_or_else(|| format!("Kafka at {place} does not answer"))))
}
