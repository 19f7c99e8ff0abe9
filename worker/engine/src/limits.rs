//! Every bound of the engine, with its arithmetic. What is not bounded here is bounded by the plan.

/// Bytes of one raw record that are looked at; a longer one is a dead letter. One MiB is the default
/// `max.message.bytes` of Kafka brokers, times eight for those who raised it.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// Depth of nested JSON that is followed; deeper is a dead letter. 128 is what `serde_json` allows.
pub const JSON_DEPTH_MAX: usize = 128;

/// Bytes of a raw record that a dead letter keeps. A longer one is cut, and says so.
pub const DEAD_LETTER_BYTES_MAX: usize = 64 << 10;

/// Milliseconds an event time may lie after the arrival of its record: clocks are wrong by minutes, time
/// zones by at most 14 hours. A later one would drag the watermark with it, so it is a dead letter.
pub const FUTURE_MS_MAX: i64 = 24 * 3_600_000;

/// Events that a funnel remembers for one entity inside its bound in time. 10,000 clicks an hour by one
/// person are a robot; the oldest are then forgotten.
pub const FUNNEL_EVENTS_MAX: usize = 10_000;

/// Bytes of the ids of these events: 10,000 UUIDs take 360 KB; whoever sends longer ones has fewer events kept.
pub const FUNNEL_ID_BYTES_MAX: usize = 16 << 20;

/// Windows of history that `zscore` may ask for.
pub const ZSCORE_WINDOWS_MAX: u32 = 1_000;
