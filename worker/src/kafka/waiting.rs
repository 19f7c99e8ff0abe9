//! Roles that are started while no broker answers wait, as roles that run do: alive, not ready, and saying why.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use prometheus::Registry;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{
    catalogue,
    client::Cluster,
    context::{forget_news, is_news},
    knock::{Door, knock},
    names::Names,
};
use crate::{health::HealthServer, ports::LogError};

/// Pause before the brokers are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Whether a role may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The brokers answer, and the pipeline's topics can be read.
    Now,
    /// Somebody asked for the end before.
    Never,
}

/// Waits until brokers let us in and can be read from, however long that takes; meanwhile `/healthz` and `/readyz` answer.
///
/// # Errors
/// A [`crate::cli::Mistake`] where brokers refuse us; what they say where waiting will not help.
pub fn wait_for_brokers(
    cluster: &Cluster,
    names: &Names,
    health_listen: SocketAddr,
    signals: &Receiver<()>,
) -> anyhow::Result<Begin> {
    let Some(why) = trouble(cluster, names)? else { return Ok(Begin::Now) };
    let (begun, reason) = (Instant::now(), Arc::new(Mutex::new(why)));
    let told = Arc::clone(&reason);
    let unready = move || Err(told.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let health = HealthServer::start(health_listen, Arc::new(unready), Registry::new())?;
    let begin = loop {
        {
            let why = reason.lock().unwrap_or_else(PoisonError::into_inner);
            if is_news(&why) {
                tracing::warn!(health = %health.address, "waiting for Kafka: {why}");
            }
        }
        if signals.recv_timeout(ASK_AGAIN) != Err(RecvTimeoutError::Timeout) {
            break Begin::Never;
        }
        match trouble(cluster, names)? {
            Some(why) => *reason.lock().unwrap_or_else(PoisonError::into_inner) = why,
            None => break Begin::Now,
        }
    };
    if begin == Begin::Now {
        tracing::warn!(seconds = begun.elapsed().as_secs(), "Kafka answers");
        forget_news();
    }
    // Its port is the role's own health's next.
    health.stop();
    Ok(begin)
}

/// Why nothing can begin yet. Brokers that just came up let everybody in before they know who leads what: the catalogue is
/// read as a role's first step will.
fn trouble(cluster: &Cluster, names: &Names) -> anyhow::Result<Option<String>> {
    if let Door::Silent(why) = knock(cluster)? {
        return Ok(Some(why));
    }
    match catalogue::read(cluster, names) {
        Ok(_) => Ok(None),
        Err(LogError::Io { source, .. }) if passes(&*source) => {
            Ok(Some(format!("Kafka at {} lets us in, and then does not answer: {source}", cluster.bootstrap)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an error may be gone the next time. Rights that are missing are for a person to give.
fn passes(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    use RDKafkaErrorCode::{ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed};
    let code = error.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
    !matches!(code, Some(ClusterAuthorizationFailed | GroupAuthorizationFailed | TopicAuthorizationFailed))
}
