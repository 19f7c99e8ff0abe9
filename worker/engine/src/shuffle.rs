//! Messages of the shuffle: what one task tells one MERGE task at one commit.
//!
//! ```text
//! version │ checksum of the rest │ origin │ from..to │ marks: (channel, watermark, idle)… │ sections: (operator, length, body)…
//! ```
//! `from..to` are positions of the origin's own input. A receiver ignores a message whose `to` it has passed, so
//! a message that is delivered twice changes nothing.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    output::Source,
    plan::{Input, Plan, TableKind},
    time::Millis,
};

/// Version of the message format.
const VERSION: u8 = 1;

/// Bytes of the checksum: what lies behind it is as it was written, so that whoever applies it need not look twice.
const CHECKSUM_BYTES: usize = 8;

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The MAP task of a source partition.
    Map(Source),
    /// The MERGE task of a shuffle partition.
    Merge(u32),
}

/// What a watermark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Events of a stream; origins are the partitions of its topics.
    Stream(usize),
    /// Pairs of a join; origins are the shuffle partitions.
    Join(usize),
    /// Contributions of a funnel; origins are the shuffle partitions.
    Funnel(usize),
}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Partial aggregates of a table, or contributions of its funnel.
    Table(usize),
    /// Events of a table's funnel, keyed by entity.
    Funnel(usize),
    /// Rows of a join, keyed by the join key.
    Join(usize),
}

impl Operator {
    fn number(self) -> u64 {
        match self {
            Self::Table(at) => at as u64 * 3,
            Self::Funnel(at) => at as u64 * 3 + 1,
            Self::Join(at) => at as u64 * 3 + 2,
        }
    }

    fn from_number(number: u64, plan: &Plan) -> Result<Self, Corrupt> {
        let at = usize::try_from(number / 3).map_err(|_| Corrupt("unknown operator"))?;
        let (operator, known) = match number % 3 {
            0 => (Self::Table(at), plan.tables.len()),
            1 => (Self::Funnel(at), plan.tables.len()),
            _ => (Self::Join(at), plan.joins.len()),
        };
        if at < known { Ok(operator) } else { Err(Corrupt("unknown operator")) }
    }
}

impl Channel {
    fn number(self) -> u64 {
        match self {
            Self::Stream(at) => at as u64 * 3,
            Self::Join(at) => at as u64 * 3 + 1,
            Self::Funnel(at) => at as u64 * 3 + 2,
        }
    }

    fn from_number(number: u64, plan: &Plan) -> Result<Self, Corrupt> {
        let at = usize::try_from(number / 3).map_err(|_| Corrupt("unknown channel"))?;
        let (channel, known) = match number % 3 {
            0 => (Self::Stream(at), plan.streams.len()),
            1 => (Self::Join(at), plan.joins.len()),
            _ => (Self::Funnel(at), plan.tables.len()),
        };
        if at < known { Ok(channel) } else { Err(Corrupt("unknown channel")) }
    }

    /// The channel of a table's or join's input.
    #[must_use]
    pub fn of_input(input: Input) -> Self {
        match input {
            Input::Stream(stream) => Self::Stream(stream),
            Input::Join(join) => Self::Join(join),
        }
    }

    /// Every channel of the plan, in order.
    #[must_use]
    pub fn all(plan: &Plan) -> Vec<Self> {
        let funnels = plan.tables.iter().enumerate().filter(|(_, table)| matches!(table.kind, TableKind::Funnel(_)));
        (0..plan.streams.len())
            .map(Self::Stream)
            .chain((0..plan.joins.len()).map(Self::Join))
            .chain(funnels.map(|(at, _)| Self::Funnel(at)))
            .collect()
    }

    /// Every origin of the channel, in order.
    #[must_use]
    pub fn origins(self, plan: &Plan) -> Vec<Origin> {
        match self {
            Self::Stream(stream) => sources(plan, stream).map(Origin::Map).collect(),
            Self::Join(_) | Self::Funnel(_) => (0..plan.shuffle_partitions).map(Origin::Merge).collect(),
        }
    }
}

fn sources(plan: &Plan, stream: usize) -> impl Iterator<Item = Source> + '_ {
    plan.streams[stream].topics.iter().flat_map(|topic| {
        (0..plan.topics[*topic].partitions).map(|partition| Source { topic: *topic as u32, partition })
    })
}

/// A claim about event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is about.
    pub channel: Channel,
    /// No event before this is expected.
    pub watermark: Millis,
    /// The origin is at the end of its log and excused.
    pub idle: bool,
}

/// The bytes of one operator for each destination, collected between two commits.
#[derive(Clone, Debug)]
pub struct Section {
    operator: Operator,
    bodies: Vec<Vec<u8>>,
}

impl Section {
    /// Makes an empty section for `partitions` destinations.
    #[must_use]
    pub fn new(operator: Operator, partitions: u32) -> Self {
        Self { operator, bodies: vec![Vec::new(); partitions as usize] }
    }

    /// The number of destinations.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.bodies.len() as u32
    }

    /// The bytes for `partition`.
    pub fn body(&mut self, partition: u32) -> &mut Vec<u8> {
        &mut self.bodies[partition as usize]
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.bodies.iter_mut().for_each(Vec::clear);
    }
}

/// Writes one message for each destination that `sections` have bytes for; for every destination if `to_all`.
pub fn write_messages<'a>(
    origin: Origin,
    span: std::ops::Range<u64>,
    marks: &[Mark],
    sections: impl Iterator<Item = &'a Section> + Clone,
    to_all: bool,
    out: &mut [Vec<u8>],
) {
    for (partition, message) in out.iter_mut().enumerate() {
        let bodies = sections.clone().filter(|section| !section.bodies[partition].is_empty());
        if !to_all && bodies.clone().next().is_none() {
            continue;
        }
        let begin = message.len();
        message.push(VERSION);
        message.extend_from_slice(&[0; CHECKSUM_BYTES]);
        write_header(origin, &span, marks, message);
        for section in bodies {
            put_u64(section.operator.number(), message);
            put_bytes(&section.bodies[partition], message);
        }
        let (head, rest) = message[begin..].split_at_mut(1 + CHECKSUM_BYTES);
        head[1..].copy_from_slice(&xxh3_64(rest).to_le_bytes());
    }
}

fn write_header(origin: Origin, span: &std::ops::Range<u64>, marks: &[Mark], out: &mut Vec<u8>) {
    put_origin(origin, out);
    put_u64(span.start, out);
    put_u64(span.end, out);
    put_u64(marks.len() as u64, out);
    for mark in marks {
        put_u64(mark.channel.number(), out);
        put_i64(mark.watermark, out);
        out.push(u8::from(mark.idle));
    }
}

/// Appends an origin.
pub fn put_origin(origin: Origin, out: &mut Vec<u8>) {
    match origin {
        Origin::Map(source) => {
            out.push(0);
            put_u64(u64::from(source.topic), out);
            put_u64(u64::from(source.partition), out);
        }
        Origin::Merge(partition) => {
            out.push(1);
            put_u64(u64::from(partition), out);
        }
    }
}

/// Reads an origin.
///
/// # Errors
/// On corrupt bytes.
pub fn read_origin(reader: &mut Reader<'_>) -> Result<Origin, Corrupt> {
    let narrow = |value: u64| u32::try_from(value).map_err(|_| Corrupt("origin out of range"));
    match reader.u8()? {
        0 => Ok(Origin::Map(Source { topic: narrow(reader.u64()?)?, partition: narrow(reader.u64()?)? })),
        1 => Ok(Origin::Merge(narrow(reader.u64()?)?)),
        _ => Err(Corrupt("unknown origin")),
    }
}

/// A message, read up to its sections.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Who sent it.
    pub origin: Origin,
    /// Positions of the origin's input that it covers.
    pub span: std::ops::Range<u64>,
    /// Its claims.
    pub marks: Vec<Mark>,
    sections: Reader<'a>,
}

impl<'a> Message<'a> {
    /// Reads the head of a message.
    ///
    /// # Errors
    /// On corrupt bytes or another version.
    pub fn read(bytes: &'a [u8], plan: &Plan) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Corrupt("another version of the shuffle format"));
        }
        let checksum = reader.take(CHECKSUM_BYTES)?;
        if *checksum != xxh3_64(reader.rest()).to_le_bytes() {
            return Err(Corrupt("a message has another checksum"));
        }
        let origin = read_origin(&mut reader)?;
        let span = reader.u64()?..reader.u64()?;
        let mut marks = Vec::new();
        for _ in 0..reader.count()? {
            let channel = Channel::from_number(reader.u64()?, plan)?;
            marks.push(Mark { channel, watermark: reader.i64()?, idle: reader.u8()? != 0 });
        }
        Ok(Self { origin, span, marks, sections: reader })
    }

    /// Reads the next section.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn next_section(&mut self, plan: &Plan) -> Result<Option<(Operator, Reader<'a>)>, Corrupt> {
        if self.sections.is_empty() {
            return Ok(None);
        }
        let operator = Operator::from_number(self.sections.u64()?, plan)?;
        Ok(Some((operator, Reader::new(self.sections.bytes()?))))
    }
}
