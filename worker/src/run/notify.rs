//! Tells people of alerts: changed rows of `_alerts` are posted to the webhooks that the manifest names.
//!
//! At least once: the position in the results moves when a post was answered, or given up. A receiver tells repeats by
//! `Idempotency-Key`. A webhook that does not answer is tried a few times, then left alone for a while, so that it delays nobody else.
//! Addresses are secrets: they are never logged.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use crds::spec::PipelineSpec;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine::{batch::RawBatch, plan::Plan};
use serde_json::{Value, json, value::RawValue};

use crate::{
    cli::Mistake,
    driver::Shared,
    limits,
    log::record::read_result,
    metrics::Delivery,
    ports::{Commit, Log, LogError, Position},
    secrets::Secrets,
    tell,
};

/// Who reads the results here.
const CONSUMER: &str = "notify";

/// The beginning of the key of an alert's row.
const ALERTS_KEY: &[u8] = b"[\"_alerts\",";

/// The thread that tells people.
pub(super) struct Notifier {
    thread: JoinHandle<Result<(), LogError>>,
    /// Dropped when the run ends: the thread then says what is left, without patience.
    stop: Sender<()>,
    shared: Arc<Shared>,
}

/// A webhook and what became of it.
struct Webhook {
    secret: String,
    url: String,
    /// It did not answer: nothing is sent before.
    rests_until: Option<Instant>,
}

/// What is known of an alert.
struct Told {
    webhooks: Vec<Webhook>,
    description: Option<String>,
    /// Names of the columns that group its table.
    groups: Vec<String>,
}

impl Notifier {
    /// Starts the thread if some alert has a webhook whose secret is there; says who is not told.
    ///
    /// # Errors
    /// A [`Mistake`] where a secret is no address.
    pub(super) fn start(shared: &Arc<Shared>, spec: &PipelineSpec, secrets: &Secrets) -> anyhow::Result<Option<Self>> {
        let alerts = alerts(&shared.plan, spec, secrets)?;
        if alerts.values().all(|told| told.webhooks.is_empty()) {
            return Ok(None);
        }
        let (stop, stopped) = bounded(0);
        let agent = ureq::Agent::config_builder().timeout_global(Some(limits::NOTIFY_TIME_MAX)).max_redirects(0);
        let agent = agent.http_status_as_error(false).build().new_agent();
        let poster = Poster { shared: Arc::clone(shared), alerts, agent, stopped };
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

fn alerts(plan: &Plan, spec: &PipelineSpec, secrets: &Secrets) -> anyhow::Result<BTreeMap<String, Told>> {
    let mut alerts = BTreeMap::new();
    for alert in &spec.alerts {
        let mut webhooks = Vec::new();
        for notify in &alert.notify {
            if let Some(topic) = &notify.topic {
                tell::line(&format!(
                    "alert {}: topic {topic}: in this mode its rows are in the table _alerts",
                    alert.name
                ));
            }
            let Some(secret) = notify.webhook.as_ref().map(|webhook| &webhook.url_secret) else { continue };
            match secrets.value(secret, "url") {
                Ok(url) if url.starts_with("http://") || url.starts_with("https://") => {
                    webhooks.push(Webhook { secret: secret.clone(), url, rests_until: None });
                }
                Ok(_) => bail!(Mistake(format!("secret {secret}: `url` is no http or https address"))),
                Err(missing) => tell::line(&format!("alert {}: nobody is told: {missing}", alert.name)),
            }
        }
        let groups = plan.alerts.iter().find(|planned| planned.name == alert.name);
        let groups = groups.map(|planned| &plan.tables[planned.table].group_by);
        let groups = groups.into_iter().flatten().map(|group| group.column.name.clone()).collect();
        alerts.insert(alert.name.clone(), Told { webhooks, description: alert.description.clone(), groups });
    }
    Ok(alerts)
}

struct Poster {
    shared: Arc<Shared>,
    alerts: BTreeMap<String, Told>,
    agent: ureq::Agent,
    stopped: Receiver<()>,
}

/// How a post went.
enum Answer {
    Taken,
    /// It may be taken later.
    NotNow(String),
    /// It never will be.
    Refused(String),
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
            let stopping = self.is_stopping();
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

    fn is_stopping(&self) -> bool {
        matches!(self.stopped.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    fn tell(&mut self, offset: u64, document: &[u8]) {
        let Some((alert, body)) = self.message(offset, document) else { return };
        let key = format!("{}/{offset}", self.shared.plan.pipeline);
        let Some(mut told) = self.alerts.remove(&alert) else { return };
        for webhook in &mut told.webhooks {
            let delivery = match self.deliver(webhook, &key, &body) {
                Ok(()) => Delivery::Delivered,
                Err(why) => {
                    tracing::warn!(alert, secret = webhook.secret, why, "nobody was told of an alert");
                    Delivery::Failed
                }
            };
            self.shared.metrics.notified(delivery);
        }
        self.alerts.insert(alert, told);
    }

    /// The name of the alert, and what is posted. `None` for rows that nobody is told of.
    fn message(&self, offset: u64, document: &[u8]) -> Option<(String, Vec<u8>)> {
        let row: Value = serde_json::from_slice(document).ok()?;
        let alert = row["group"]["alert"].as_str()?;
        let told = self.alerts.get(alert).filter(|told| !told.webhooks.is_empty())?;
        let values: Vec<Value> = serde_json::from_str(row["group"]["group"].as_str()?).unwrap_or_default();
        let group: serde_json::Map<String, Value> = told.groups.iter().cloned().zip(values).collect();
        let detail = row["values"]["detail"].as_str().unwrap_or("null").to_owned();
        let message = json!({
            "pipeline": self.shared.plan.pipeline, "alert": alert, "state": row["values"]["state"],
            "description": told.description, "window_start": row["window_start"], "window_end": row["window_end"],
            "group": group, "version": offset,
        });
        // Spliced in as text: parsing it would turn exact decimals into doubles.
        let mut body = message.to_string().into_bytes();
        body.pop();
        let detail = RawValue::from_string(detail).ok()?;
        body.extend_from_slice(format!(",\"row\":{}}}", detail.get()).as_bytes());
        Some((alert.to_owned(), body))
    }

    /// Posts until it is taken, refused, or tried often enough; while the run ends, once.
    fn deliver(&self, webhook: &mut Webhook, key: &str, body: &[u8]) -> Result<(), String> {
        if webhook.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err("it did not answer a moment ago".into());
        }
        webhook.rests_until = None;
        let mut pause = limits::NOTIFY_PAUSE_MIN;
        for attempt in 1.. {
            match self.post(&webhook.url, key, body) {
                Answer::Taken => return Ok(()),
                Answer::Refused(why) => return Err(why),
                Answer::NotNow(why) => {
                    let is_last = attempt == limits::NOTIFY_ATTEMPTS_MAX;
                    let ends = matches!(self.stopped.recv_timeout(pause), Err(RecvTimeoutError::Disconnected));
                    if is_last || (ends && attempt > 1) {
                        webhook.rests_until = Some(Instant::now() + limits::NOTIFY_REST);
                        return Err(why);
                    }
                    pause *= 2;
                }
            }
        }
        Ok(())
    }

    fn post(&self, url: &str, key: &str, body: &[u8]) -> Answer {
        let request = self.agent.post(url).header("content-type", "application/json").header("idempotency-key", key);
        match request.send(body) {
            Ok(answer) if answer.status().is_success() => Answer::Taken,
            Ok(answer) => {
                let why = format!("status {}", answer.status().as_u16());
                let is_busy = answer.status().is_server_error() || [408, 429].contains(&answer.status().as_u16());
                if is_busy { Answer::NotNow(why) } else { Answer::Refused(why) }
            }
            // The message may hold the address.
            Err(ureq::Error::Timeout(_)) => Answer::NotNow("no answer in time".into()),
            Err(ureq::Error::BadUri(_)) => Answer::Refused("the address is no address".into()),
            Err(_) => Answer::NotNow("no connection".into()),
        }
    }
}
