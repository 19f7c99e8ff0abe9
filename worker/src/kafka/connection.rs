//! A client of Kafka with the token that it shows brokers, where they want one.
//!
//! librdkafka asks for a new token by an event, which whoever polls the client is to answer. Many of ours are never polled:
//! they look after topics, ask for offsets, or wait in `init_transactions`, which serves no events. So nobody waits for
//! that event: [`super::tokens`] gives every client each token as soon as there is one, from outside.
//!
//! Audit, once for the whole module:
//! - A pointer is entered after its client was made, and taken out before the client is destroyed: [`Connection`] drops its
//!   entry first. Both happen under the lock under which tokens are given, so that none is given to a client that is gone.
//! - librdkafka may be told of a token by any thread; it copies what it is given, and calls nobody back meanwhile.
#![expect(
    unsafe_code,
    reason = "tokens and the id of a member are to be had in librdkafka's C interface only; see the audit above"
)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ops::Deref,
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use rdkafka::{
    admin::AdminClient,
    client::ClientContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    producer::{BaseProducer, Partitioner, Producer as _, ProducerContext},
    types::RDKafkaRespErr,
};
use rdkafka_sys as native;

use super::tokens::{Token, Tokens};
use crate::kafka::context::is_news;

/// A client of librdkafka.
pub trait Native {
    /// What librdkafka knows it by.
    fn native(&self) -> *mut native::rd_kafka_t;
}

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut native::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext<P>, P: Partitioner> Native for BaseProducer<C, P> {
    fn native(&self) -> *mut native::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Native for AdminClient<C> {
    fn native(&self) -> *mut native::rd_kafka_t {
        self.inner().native_ptr()
    }
}

/// A client that always has the newest token, if its brokers want any.
pub struct Connection<T> {
    /// Dropped before the client: fields go in their order.
    _entry: Option<Entry>,
    client: T,
}

impl<T: Native> Connection<T> {
    pub(super) fn of(client: T, tokens: Option<&Arc<Tokens>>) -> Self {
        Self { _entry: tokens.map(|tokens| Entry::of(client.native(), tokens)), client }
    }
}

impl<C: ConsumerContext> Connection<BaseConsumer<C>> {
    /// What the group's coordinator knows this member by; empty while it knows it by nothing.
    #[must_use]
    pub fn member_id(&self) -> String {
        // SAFETY: the client lives. The string is a copy that ends with a zero byte, or null, and ours to free.
        unsafe {
            let id = native::rd_kafka_memberid(self.client.native());
            if id.is_null() {
                return String::new();
            }
            let text = CStr::from_ptr(id).to_string_lossy().into_owned();
            native::rd_kafka_mem_free(ptr::null_mut(), id.cast());
            text
        }
    }
}

impl<T> Deref for Connection<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

/// Clients that are to be given tokens.
#[derive(Default)]
pub(super) struct Clients(Mutex<Known>);

#[derive(Default)]
struct Known {
    newest: Option<Arc<Token>>,
    clients: BTreeMap<u64, Client>,
    entered: u64,
}

impl Clients {
    /// Gives a token to every client that there is, and to those that come.
    pub(super) fn give(&self, token: Arc<Token>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clients.values().for_each(|client| client.give(&token));
        known.newest = Some(token);
    }
}

/// That a client is among those that are given tokens.
struct Entry {
    number: u64,
    tokens: Arc<Tokens>,
}

impl Entry {
    fn of(client: *mut native::rd_kafka_t, tokens: &Arc<Tokens>) -> Self {
        let mut known = tokens.clients().0.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, client) = (known.entered, Client(client));
        known.entered += 1;
        known.newest.iter().for_each(|token| client.give(token));
        known.clients.insert(number, client);
        Self { number, tokens: Arc::clone(tokens) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tokens.clients().0.lock().unwrap_or_else(PoisonError::into_inner).clients.remove(&self.number);
    }
}

struct Client(*mut native::rd_kafka_t);

// SAFETY: librdkafka's clients may be used by any thread; that this one lives is the audit's first point.
unsafe impl Send for Client {}

impl Client {
    /// What librdkafka says of a token that it does not take may hold the token: only its code is told.
    fn give(&self, token: &Token) {
        let mut extensions: Vec<*const c_char> = token.extensions.iter().map(|text| text.as_ptr()).collect();
        let mut told: [c_char; 256] = [0; 256];
        // SAFETY: the client lives; the strings end with a zero byte and outlive the call; lengths are those of the arrays.
        let code = unsafe {
            native::rd_kafka_oauthbearer_set_token(
                self.0,
                token.value.as_ptr(),
                token.expires_ms,
                token.principal.as_ptr(),
                if extensions.is_empty() { ptr::null_mut() } else { extensions.as_mut_ptr() },
                extensions.len(),
                told.as_mut_ptr(),
                told.len(),
            )
        };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && is_news("a token is not taken") {
            tracing::warn!(?code, "librdkafka does not take the token: it may have expired");
        }
    }
}

/// Text for librdkafka.
pub(super) fn c_string(text: &str) -> Option<CString> {
    CString::new(text).ok()
}
