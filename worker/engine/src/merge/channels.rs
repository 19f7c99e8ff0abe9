//! The merged watermark of every channel that a MERGE task listens to.

use crate::{
    codec::{Corrupt, Reader, put_i64, put_u64},
    map::{system_row, time_value},
    output::{Row, SystemTable},
    plan::{Plan, TableKind},
    shuffle::{Channel, Mark, Origin, put_origin, read_origin},
    time::{BEGINNING_OF_TIME, Millis},
    watermark::MergedWatermark,
};

struct Listening {
    channel: Channel,
    /// In their own order.
    origins: Vec<Origin>,
    watermark: MergedWatermark,
    told: Millis,
}

impl Listening {
    /// The place of an origin. One that the plan does not know yet is taken in: a topic has grown, and whoever sent this was
    /// told before us. What it claims must not be lost, because a quiet partition says it once.
    fn place(&mut self, origin: Origin) -> usize {
        self.origins.binary_search(&origin).unwrap_or_else(|at| {
            self.origins.insert(at, origin);
            self.watermark.insert(at);
            at
        })
    }
}

/// Every channel of the plan.
pub(super) struct Channels(Vec<Listening>);

impl Channels {
    pub(super) fn new(plan: &Plan) -> Self {
        let listen = |channel: Channel| {
            let mut origins = channel.origins(plan);
            // A stream may list its topics in any order.
            origins.sort_unstable();
            let watermark = MergedWatermark::new(origins.len());
            Listening { channel, origins, watermark, told: BEGINNING_OF_TIME }
        };
        Self(Channel::all(plan).into_iter().map(listen).collect())
    }

    pub(super) fn hear(&mut self, origin: Origin, mark: Mark, with_records: bool) {
        let listening = self.0.iter_mut().find(|listening| listening.channel == mark.channel);
        let Some(listening) = listening else { return };
        let at = listening.place(origin);
        listening.watermark.hear(at, mark.watermark, mark.idle, with_records);
    }

    /// The merged watermark of `channel`.
    pub(super) fn now(&self, channel: Channel) -> Millis {
        let listening = self.0.iter().find(|listening| listening.channel == channel);
        listening.map_or(BEGINNING_OF_TIME, |listening| listening.watermark.now())
    }

    /// The watermark of what a table reads.
    pub(super) fn input(&self, plan: &Plan, table: usize) -> Millis {
        self.now(Channel::of_input(plan.tables[table].input))
    }

    /// The watermark that closes a table's windows: of its input, or of its funnel's contributions.
    pub(super) fn table(&self, plan: &Plan, table: usize) -> Millis {
        match plan.tables[table].kind {
            TableKind::Aggregate(_) => self.input(plan, table),
            TableKind::Funnel(_) => self.now(Channel::Funnel(table)),
        }
    }

    /// Appends a row for every stream whose watermark moved.
    pub(super) fn tell_watermarks(&mut self, plan: &Plan, task: &str, rows: &mut Vec<Row>) {
        for listening in &mut self.0 {
            let name = match listening.channel {
                Channel::Stream(stream) => &plan.streams[stream].name,
                Channel::Join(join) => &plan.joins[join].name,
                Channel::Funnel(_) => continue,
            };
            let now = listening.watermark.now();
            if now != listening.told {
                rows.push(system_row(plan, SystemTable::Watermarks, &[name, task], vec![time_value(now)]));
                listening.told = now;
            }
        }
    }

    /// Origins are written by name: topics grow while an epoch lasts.
    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        for Listening { origins, watermark, .. } in &self.0 {
            put_i64(watermark.now(), out);
            put_u64(origins.len() as u64, out);
            for (at, origin) in origins.iter().enumerate() {
                let (claimed, idle) = watermark.claim(at);
                put_origin(*origin, out);
                put_i64(claimed, out);
                out.push(u8::from(idle));
            }
        }
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for listening in &mut self.0 {
            let merged = reader.i64()?;
            for _ in 0..reader.count()? {
                let at = listening.place(read_origin(reader)?);
                listening.watermark.claimed(at, (reader.i64()?, reader.u8()? != 0));
            }
            listening.watermark.resume(merged);
        }
        Ok(())
    }
}
