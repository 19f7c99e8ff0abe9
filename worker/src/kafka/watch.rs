//! Looks whether the brokers answer and the topics are there, for roles that write to Kafka: one that writes nothing at the
//! moment would not notice. What is wrong is told once, and once more when it is over.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use rdkafka::{
    metadata::MetadataTopic,
    producer::{BaseProducer, Producer as _},
};

use super::{
    client::Cluster,
    connection::Connection,
    context::{self, Logged},
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
    /// Asks from now on, for these topics of the pipeline's.
    ///
    /// # Errors
    /// Where librdkafka refuses the configuration.
    pub fn start(cluster: &Cluster, topics: BTreeSet<String>) -> anyhow::Result<Self> {
        let client: Connection<BaseProducer<Logged>> = cluster.create(&cluster.base())?;
        let (downstream, stop) = (Arc::new(Downstream::default()), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (Arc::clone(&downstream), Arc::clone(&stop));
        let bootstrap = cluster.bootstrap.clone();
        let body = move || {
            let mut wrong_since: Option<Instant> = None;
            while !stopped.load(Ordering::Acquire) {
                match look(&client, &topics) {
                    Ok(()) => {
                        told.succeeded();
                        if let Some(since) = wrong_since.take() {
                            tracing::warn!(seconds = since.elapsed().as_secs(), "Kafka is as it should be again");
                            context::forget_news();
                        }
                    }
                    Err(problem) => {
                        told.failed(format!("Kafka at {bootstrap}: {problem}"));
                        if wrong_since.is_none() && told.ready().is_err() {
                            tracing::warn!(bootstrap, "waiting for Kafka: {problem}");
                            wrong_since = Some(Instant::now());
                        }
                    }
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

/// What is wrong, if anything is.
fn look(client: &BaseProducer<Logged>, topics: &BTreeSet<String>) -> Result<(), String> {
    let told = client.client().fetch_metadata(None, ANSWER_TIME_MAX).map_err(|error| format!("no answer: {error}"))?;
    let there: BTreeSet<&str> =
        told.topics().iter().filter(|topic| !topic.partitions().is_empty()).map(MetadataTopic::name).collect();
    let gone: Vec<&str> = topics.iter().map(String::as_str).filter(|topic| !there.contains(topic)).collect();
    match &gone[..] {
        [] => Ok(()),
        gone => Err(format!(
            "topic {} is not there any more: somebody deleted it. Nothing makes it again by itself, because what was \
             read of it would be read as new; to start over, change the pipeline's name",
            gone.join(", ")
        )),
    }
}
