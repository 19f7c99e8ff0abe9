//! Whether a posted event will be taken: it is decoded as the streams will decode it.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use engine::{
    batch::RawBatch,
    column::{Column, Data},
    decode::{Decoded, Decoder},
    kernel::Program,
    plan::StreamPlan,
};

use crate::ingest::now;

/// The streams that read a collector's topic. An event that one of them takes is accepted; without any stream it only
/// has to be a JSON object.
pub struct Check {
    streams: Vec<StreamPlan>,
    /// Decoders that no request is using: they keep their memory.
    idle: Mutex<Vec<Vec<StreamCheck>>>,
}

struct StreamCheck {
    decoder: Decoder,
    decoded: Decoded,
    /// Names and programs.
    rules: Vec<(String, Program)>,
}

impl Check {
    /// Makes the check for the streams of one topic.
    #[must_use]
    pub fn new(streams: Vec<StreamPlan>) -> Self {
        Self { streams, idle: Mutex::default() }
    }

    /// Returns for each event of `body` why it is rejected, if it is.
    pub fn events(&self, body: &[u8], events: &[Range<usize>]) -> Vec<Option<String>> {
        let payloads = || events.iter().map(|event| &body[event.clone()]);
        if self.streams.is_empty() {
            return payloads().map(object).collect();
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut checks = idle.unwrap_or_else(|| self.streams.iter().map(StreamCheck::new).collect());
        let mut reasons: Option<Vec<Option<String>>> = None;
        for check in &mut checks {
            let own = check.reasons(payloads());
            reasons = Some(match reasons {
                None => own,
                Some(before) => {
                    before.into_iter().zip(own).map(|(before, own)| before.and_then(|why| own.map(|_| why))).collect()
                }
            });
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(checks);
        reasons.unwrap_or_default()
    }
}

impl StreamCheck {
    fn new(stream: &StreamPlan) -> Self {
        // What is hashed here is never kept, so that any key will do.
        let decoder = Decoder::new(stream, &[0; 32]);
        let rules = stream.rules.iter().map(|rule| (rule.name.clone(), Program::compile(&rule.check))).collect();
        Self { decoder, decoded: Decoded::default(), rules }
    }

    fn reasons<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) -> Vec<Option<String>> {
        let mut batch = RawBatch::default();
        let arrival = now();
        payloads.for_each(|payload| batch.push(payload, 0, arrival));
        let mut reasons = vec![None; batch.records.len()];
        self.decoder.decode(&mut batch, &mut self.decoded);
        for reject in &self.decoded.rejects {
            reasons[reject.record as usize] = Some(format!("{}: {}", reject.reason, reject.detail));
        }
        let rows = &self.decoded.rows;
        for (name, program) in self.rules.iter_mut().rev() {
            let column = program.eval(&self.decoded.columns, rows.len(), &mut batch.bytes);
            for (_, record) in rows.iter().enumerate().filter(|(row, _)| is_false(column, *row)) {
                reasons[*record as usize] = Some(format!("rule {name} is false"));
            }
        }
        reasons
    }
}

fn is_false(column: &Column, row: usize) -> bool {
    matches!(&column.data, Data::Boolean(values) if column.valid[row] && !values[row])
}

fn object(payload: &[u8]) -> Option<String> {
    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(payload);
    match (payload.first(), parsed) {
        (Some(b'{'), Ok(_)) => None,
        (_, Err(error)) => Some(format!("not-json: {error}")),
        _ => Some("not-json: not an object".into()),
    }
}
