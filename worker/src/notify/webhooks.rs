//! Posts to webhooks. One that does not answer is tried a few times, then left alone for a while, so that it delays nobody else.
//!
//! Addresses are secrets: they are never logged.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crds::spec::PipelineSpec;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::Message;
use crate::{cli::Mistake, limits, metrics::Delivery, secrets::Secrets, tell};

/// The webhooks of a manifest whose secrets are there.
pub struct Webhooks {
    agent: ureq::Agent,
    /// By the name of the secret.
    by_secret: BTreeMap<String, Webhook>,
}

struct Webhook {
    url: String,
    /// It did not answer: nothing is sent before.
    rests_until: Option<Instant>,
}

/// How a post went.
enum Answer {
    Taken,
    /// It may be taken later.
    NotNow(String),
    /// It never will be.
    Refused(String),
}

impl Webhooks {
    /// Finds the addresses; says of which alerts nobody is told because there is none.
    ///
    /// # Errors
    /// A [`Mistake`] where a secret is no address.
    pub fn open(spec: &PipelineSpec, secrets: &Secrets) -> Result<Self, Mistake> {
        let mut by_secret = BTreeMap::new();
        let asked = spec.alerts.iter().flat_map(|alert| alert.notify.iter().map(move |notify| (alert, notify)));
        for (alert, secret) in asked.filter_map(|(alert, notify)| Some((alert, &notify.webhook.as_ref()?.url_secret))) {
            match secrets.value(secret, "url") {
                Ok(url) if url.starts_with("http://") || url.starts_with("https://") => {
                    by_secret.insert(secret.clone(), Webhook { url, rests_until: None });
                }
                Ok(_) => return Err(Mistake(format!("secret {secret}: `url` is no http or https address"))),
                Err(missing) => tell::line(&format!("alert {}: nobody is told: {missing}", alert.name)),
            }
        }
        let agent = ureq::Agent::config_builder().timeout_global(Some(limits::NOTIFY_TIME_MAX)).max_redirects(0);
        Ok(Self { agent: agent.http_status_as_error(false).build().new_agent(), by_secret })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_secret.is_empty()
    }

    /// Posts a message to `secrets`, to each that is there until it is taken, refused, or tried often enough: twice at most where
    /// `stopped` has no sender any more. Says what became of each.
    pub fn post(
        &mut self,
        secrets: &[String],
        message: &Message,
        stopped: &Receiver<()>,
        mut became: impl FnMut(Delivery),
    ) {
        for secret in secrets {
            // The start has said why.
            let Some(webhook) = self.by_secret.get_mut(secret) else {
                became(Delivery::Failed);
                continue;
            };
            became(match webhook.deliver(&self.agent, message, stopped) {
                Ok(()) => Delivery::Delivered,
                Err(why) => {
                    tracing::warn!(message.alert, secret, why, "nobody was told of an alert");
                    Delivery::Failed
                }
            });
        }
    }
}

impl Webhook {
    fn deliver(&mut self, agent: &ureq::Agent, message: &Message, stopped: &Receiver<()>) -> Result<(), String> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err("it did not answer a moment ago".into());
        }
        self.rests_until = None;
        let mut pause = limits::NOTIFY_PAUSE_MIN;
        for attempt in 1.. {
            match self.post(agent, message) {
                Answer::Taken => return Ok(()),
                Answer::Refused(why) => return Err(why),
                Answer::NotNow(why) => {
                    let is_last = attempt == limits::NOTIFY_ATTEMPTS_MAX;
                    let ends = has_stopped(stopped, if is_last { Duration::ZERO } else { pause });
                    if is_last || (ends && attempt > 1) {
                        self.rests_until = Some(Instant::now() + limits::NOTIFY_REST);
                        return Err(why);
                    }
                    pause *= 2;
                }
            }
        }
        Ok(())
    }

    fn post(&self, agent: &ureq::Agent, message: &Message) -> Answer {
        let request = agent.post(&self.url).header("content-type", "application/json");
        match request.header("idempotency-key", &message.key).send(&message.body[..]) {
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

/// Whether nobody holds the other end any more, `pause` from now at the latest.
fn has_stopped(stopped: &Receiver<()>, pause: Duration) -> bool {
    match pause.is_zero() {
        true => matches!(stopped.try_recv(), Err(TryRecvError::Disconnected)),
        false => matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Disconnected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_without_a_secret_is_told_nothing_which_counts() {
        let checked = crds::check(include_str!("../../../examples/medallion.yaml"), &[]).unwrap();
        let nothing = tempfile::tempdir().unwrap();
        let mut webhooks = Webhooks::open(&checked.manifest.spec, &Secrets::in_directory(nothing.path())).unwrap();
        assert!(webhooks.is_empty());
        let message = Message { alert: "a".into(), key: "k".into(), body: b"{}".to_vec() };
        let mut told = Vec::new();
        let (_waiting, stopped) = crossbeam_channel::bounded(0);
        webhooks.post(&["shop-alerts".into()], &message, &stopped, |delivery| told.push(delivery));
        assert_eq!(told, [Delivery::Failed]);
    }
}
