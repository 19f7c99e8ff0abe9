//! Looks whether the brokers answer, for roles that write to Kafka: one that writes nothing at the moment would not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    config::FromClientConfigAndContext as _,
    producer::{BaseProducer, Producer as _},
};

use super::{
    client::{Cluster, failed},
    context::Logged,
};
use crate::health::downstream::Downstream;

/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long an answer may take. Three of these and the pauses between them are 15 s without an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// The thread that asks.
pub struct Watch {
    downstream: Arc<Downstream>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Asks from now on, for a topic of the pipeline's.
    ///
    /// # Errors
    /// Where librdkafka refuses the configuration.
    pub fn start(cluster: &Cluster, topic: String) -> anyhow::Result<Self> {
        let client = BaseProducer::from_config_and_context(&cluster.base(), Logged);
        let client: BaseProducer<Logged> = client.map_err(|error| failed("connect to", &cluster.bootstrap, error))?;
        let (downstream, stop) = (Arc::new(Downstream::default()), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (Arc::clone(&downstream), Arc::clone(&stop));
        let bootstrap = cluster.bootstrap.clone();
        let body = move || {
            while !stopped.load(Ordering::Acquire) {
                match client.client().fetch_metadata(Some(&topic), ANSWER_TIME_MAX) {
                    Ok(_) => told.succeeded(),
                    Err(error) => told.failed(format!("Kafka at {bootstrap} does not answer: {error}")),
                }
                client.poll(Duration::ZERO);
                thread::park_timeout(ASK_EVERY);
            }
        };
        let thread = thread::Builder::new().name("watch".into()).spawn(body).context("no thread to watch Kafka")?;
        Ok(Self { downstream, stop, thread })
    }

    /// What it found.
    #[must_use]
    pub fn downstream(&self) -> Arc<Downstream> {
        Arc::clone(&self.downstream)
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        drop(self.thread.join());
    }
}
