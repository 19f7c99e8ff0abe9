//! The merged watermark of every channel that a MERGE task listens to.

use crate::{
    codec::{Corrupt, Reader},
    map::{system_row, time_value},
    output::{Row, SystemTable},
    plan::{Plan, TableKind},
    shuffle::{Channel, Mark, Origin},
    time::{BEGINNING_OF_TIME, Millis},
    watermark::MergedWatermark,
};

struct Listening {
    channel: Channel,
    origins: Vec<Origin>,
    watermark: MergedWatermark,
    told: Millis,
}

/// Every channel of the plan.
pub(super) struct Channels(Vec<Listening>);

impl Channels {
    pub(super) fn new(plan: &Plan) -> Self {
        let listen = |channel: Channel| {
            let origins = channel.origins(plan);
            let watermark = MergedWatermark::new(origins.len());
            Listening { channel, origins, watermark, told: BEGINNING_OF_TIME }
        };
        Self(Channel::all(plan).into_iter().map(listen).collect())
    }

    pub(super) fn hear(&mut self, origin: Origin, mark: Mark, with_records: bool) {
        let listening = self.0.iter_mut().find(|listening| listening.channel == mark.channel);
        let Some(listening) = listening else { return };
        if let Ok(at) = listening.origins.binary_search(&origin) {
            listening.watermark.hear(at, mark.watermark, mark.idle, with_records);
        }
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

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|listening| listening.watermark.snapshot(out));
    }

    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), Corrupt> {
        for listening in &mut self.0 {
            listening.watermark = MergedWatermark::restore(listening.origins.len(), reader)?;
        }
        Ok(())
    }
}
