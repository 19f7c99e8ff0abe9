//! Tells people of alerts: changed rows of `_alerts` are posted to the webhooks that the manifest names.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context;
use crds::spec::PipelineSpec;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use engine::batch::RawBatch;

use crate::{
    driver::Shared,
    limits,
    log::record::read_result,
    notify::{ALERTS_KEY, Alerts, Webhooks},
    ports::{Commit, Log, LogError, Position},
    secrets::Secrets,
    tell,
};

/// Who reads the results here.
const CONSUMER: &str = "notify";

/// A data directory holds one epoch.
const EPOCH: u32 = 1;

/// The thread that tells people.
pub(super) struct Notifier {
    thread: JoinHandle<Result<(), LogError>>,
    /// Dropped when the run ends: the thread then says what is left, without patience.
    stop: Sender<()>,
    shared: Arc<Shared>,
}

impl Notifier {
    /// Starts the thread if some alert has a webhook whose secret is there; says who is not told.
    ///
    /// # Errors
    /// A [`Mistake`](crate::cli::Mistake) where a secret is no address.
    pub(super) fn start(shared: &Arc<Shared>, spec: &PipelineSpec, secrets: &Secrets) -> anyhow::Result<Option<Self>> {
        let receivers = spec.alerts.iter().flat_map(|alert| alert.notify.iter().map(move |notify| (alert, notify)));
        for (alert, topic) in receivers.filter_map(|(alert, notify)| Some((alert, notify.topic.as_ref()?))) {
            let told = "a laptop has no such topic; its rows are in the table _alerts";
            tell::line(&format!("alert {}: topic {topic}: {told}", alert.name));
        }
        let webhooks = Webhooks::open(spec, secrets)?;
        if webhooks.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = bounded(0);
        let poster = Poster { shared: Arc::clone(shared), alerts: Alerts::new(&shared.plan, spec), webhooks, stopped };
        let thread = std::thread::Builder::new().name("notify".into()).spawn(move || poster.run());
        Ok(Some(Self { thread: thread.context("no thread for notifications")?, stop, shared: Arc::clone(shared) }))
    }

    /// Tells what is left and ends.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.shared.log.nudge();
        let result = self.thread.join().unwrap_or(Err(LogError::Closed));
        result.context("failed to tell of alerts")
    }
}

struct Poster {
    shared: Arc<Shared>,
    alerts: Alerts,
    webhooks: Webhooks,
    stopped: Receiver<()>,
}

impl Poster {
    fn run(mut self) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        let at = shared.layout.results();
        let mut batch = RawBatch::default();
        // Whoever is new hears of what comes, not of everything that was.
        let mut next = shared.log.position(CONSUMER, at)?.unwrap_or_else(|| shared.log.offsets(at).end);
        loop {
            let seen = shared.log.changes();
            let stopping = matches!(self.stopped.try_recv(), Err(TryRecvError::Disconnected));
            batch.clear();
            shared.log.read(at, next..shared.log.durable_end(at), limits::RESULTS_READ_BYTES, &mut batch)?;
            for record in &batch.records {
                if let Ok((key, document)) = read_result(batch.payload(record))
                    && key.starts_with(ALERTS_KEY)
                {
                    self.tell(record.offset, document);
                }
                next = record.offset + 1;
            }
            if !batch.records.is_empty() {
                let position = Some(Position { consumer: CONSUMER, at, next });
                shared.log.commit(&Commit { appends: &[], position, progress: None })?;
            } else if stopping && next >= shared.log.offsets(at).end {
                return Ok(());
            } else {
                shared.log.wait(seen, Duration::from_millis(200));
            }
        }
    }

    fn tell(&mut self, offset: u64, document: &[u8]) {
        let Some(message) = self.alerts.message((EPOCH, offset), document) else { return };
        let Some(receivers) = self.alerts.receivers(&message.alert) else { return };
        let became = |delivery| self.shared.metrics.notified(delivery);
        self.webhooks.post(&receivers.webhooks, &message, &self.stopped, became);
    }
}
