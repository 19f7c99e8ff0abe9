//! Tokens for brokers that want them (SASL OAUTHBEARER): fetched ahead of time by one thread for each cluster, and given to
//! every client.
//!
//! A token that is refused at the start is a mistake, which [`super::knock`] tells; an endpoint that does not answer is like
//! brokers that do not. Neither tokens nor secrets are ever told.

mod endpoint;

use std::{
    ffi::CString,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crds::spec::{Kafka, Sasl};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine::time::Millis;

use self::endpoint::Endpoint;
use super::{connection::Clients, context::is_news};
use crate::{cli::Mistake, clock, secrets::Secrets};

/// Pauses before an endpoint that gave no token is asked again.
const RETRY: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(10);

/// Shortest time between two tokens, whatever their lifetime.
const FETCH_EVERY_MIN: Duration = Duration::from_secs(1);

/// A new token is fetched when this much of the old one's life is left, in per cent. librdkafka would ask at 20.
const FETCH_AT_LEFT: u32 = 30;

/// A token.
pub(super) struct Token {
    /// What brokers are shown.
    pub value: CString,
    /// Whose it is, as we know it.
    pub principal: CString,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Millis,
    /// Names and values of SASL extensions, one after the other.
    pub extensions: Vec<CString>,
}

/// Why there is no newer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A person must put something right.
    Refused(String),
    /// It passes.
    Away(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Refused(why) | Self::Away(why)) = self;
        f.write_str(why)
    }
}

/// What the keeper of the tokens of one cluster and its clients share.
pub struct Tokens {
    keeper: Arc<Keeper>,
    /// Closed with the last client: the thread ends.
    _stop: Sender<()>,
}

struct Keeper {
    clients: Clients,
    /// Written by the thread after each attempt.
    trouble: Mutex<Option<Trouble>>,
}

impl Tokens {
    /// Fetches them from now on, if the cluster wants any.
    ///
    /// # Errors
    /// A [`Mistake`] where a secret is missing or is none.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub(super) fn keep(kafka: &Kafka, secrets: &Secrets) -> Result<Option<Arc<Self>>, Mistake> {
        let Some((sasl, oauth)) = kafka.sasl.as_ref().and_then(|sasl: &Sasl| Some((sasl, sasl.oauth.as_ref()?))) else {
            return Ok(None);
        };
        let endpoint = Endpoint::of(oauth, &sasl.credentials_secret, kafka.tls.as_ref(), secrets)?;
        let keeper = Arc::new(Keeper { clients: Clients::default(), trouble: Mutex::new(None) });
        let (stop, stopped) = bounded(0);
        let kept = Arc::clone(&keeper);
        let thread = thread::Builder::new().name("tokens".into()).spawn(move || kept.run(&endpoint, &stopped));
        thread.expect("a process that just started can have one more thread");
        Ok(Some(Arc::new(Self { keeper, _stop: stop })))
    }

    /// Why the last attempt brought no token; none if it did, or is under way.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.keeper.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.keeper.clients
    }
}

impl Keeper {
    fn run(&self, endpoint: &Endpoint, stopped: &Receiver<()>) {
        let (mut pause, mut had_one) = (RETRY.start, false);
        loop {
            let wait = match endpoint.ask() {
                Ok(token) => {
                    let wait = rest(&token);
                    self.clients.give(Arc::new(token));
                    if self.note(None).is_some() && had_one {
                        tracing::warn!("tokens are given again");
                    }
                    (pause, had_one) = (RETRY.start, true);
                    wait
                }
                Err(trouble) => {
                    // Before the first token it is told by whoever waits for it.
                    if had_one && is_news(&trouble.to_string()) {
                        tracing::warn!("no new token, the old one still counts for a while: {trouble}");
                    }
                    self.note(Some(trouble));
                    let wait = pause;
                    pause = (pause * 2).min(RETRY.end);
                    wait
                }
            };
            if !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                return;
            }
        }
    }

    fn note(&self, trouble: Option<Trouble>) -> Option<Trouble> {
        std::mem::replace(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner), trouble)
    }
}

/// How long a token is good enough.
fn rest(token: &Token) -> Duration {
    let left = Duration::from_millis(u64::try_from(token.expires_ms - clock::now()).unwrap_or(0));
    (left * (100 - FETCH_AT_LEFT) / 100).max(FETCH_EVERY_MIN)
}
