//! The events of a case as they arrive: bytes, and what of them decides where they may be moved.

use crds::spec::{PipelineSpec, TestCase, TestGiven};
use engine::{output::Source, plan::Plan, time::Millis, value::Value};

use crate::{
    dead_letters::FieldReader,
    memory::{Below, Input, Record},
    ports::partition_of,
};

/// Ten years: an event that lies further behind the median is meant to be in the future, and refused.
const FUTURE_MS: Millis = 10 * 365 * 86_400_000;

/// Where cases without any event time take place.
const EPOCH: Millis = 1_735_689_600_000;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Index of the topic in the plan.
    pub topic: u32,
    pub payload: Vec<u8>,
    /// Its event time, where a stream can read one.
    pub time: Option<Millis>,
    /// When it arrives; the same wherever it is moved.
    pub arrival: Millis,
    /// What partitions it; empty where nothing does.
    pub key: Vec<u8>,
    /// The ids by which every stream that reads it knows it, so that it may come twice.
    pub id: Option<Vec<Value>>,
}

/// The events of a case, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrivals {
    pub events: Vec<Arrival>,
    /// By how much events of each topic may be out of order: the least of its streams.
    pub bounds: Vec<Millis>,
    /// Some event is later than that.
    pub some_late: bool,
}

impl Arrivals {
    /// Reads the events of `case`. Topics that no stream reads are left out.
    pub fn of(spec: &PipelineSpec, plan: &Plan, case: &TestCase) -> Self {
        let mut readers: Vec<TopicReader> = (0..plan.topics.len()).map(|topic| TopicReader::new(plan, topic)).collect();
        let mut events = Vec::new();
        for given in &case.given {
            let name = given.topic.as_ref().or_else(|| spec.topics.first().map(|topic| &topic.name));
            let Some(topic) = plan.topics.iter().position(|topic| Some(&topic.name) == name) else { continue };
            events.extend(payloads(given).map(|payload| readers[topic].read(topic, payload)));
        }
        set_arrivals(&mut events);
        let bounds: Vec<Millis> = readers.iter().map(|reader| reader.bound).collect();
        let some_late = (0..bounds.len()).any(|topic| is_some_late(&events, topic as u32, bounds[topic]));
        Self { events, bounds, some_late }
    }

    /// Records by partition, and the partition of each event in order.
    pub fn lay_out(&self, plan: &Plan) -> (Input, Vec<Source>) {
        let mut input = Input::new();
        let mut order = Vec::with_capacity(self.events.len());
        for (at, event) in self.events.iter().enumerate() {
            let partitions = plan.topics[event.topic as usize].partitions;
            let partition = match event.key.is_empty() {
                true => at as u32 % partitions,
                false => partition_of(&event.key, partitions),
            };
            let source = Source { topic: event.topic, partition };
            let records: &mut Vec<Record> = input.entry(source).or_default();
            let offset = records.len() as u64;
            records.push(Record { payload: event.payload.clone(), offset, arrival: event.arrival });
            order.push(source);
        }
        (input, order)
    }

    /// Another order in which nothing is later than the bound: every event comes at most that long after it happened.
    pub fn shuffled(&self, below: Below<'_>) -> Self {
        let mut latest = vec![EPOCH; self.bounds.len()];
        let mut keyed: Vec<(Millis, &Arrival)> = Vec::with_capacity(self.events.len());
        for event in &self.events {
            let topic = event.topic as usize;
            latest[topic] = event.time.filter(|time| *time <= event.arrival).unwrap_or(latest[topic]);
            let delay = below(self.bounds[topic].unsigned_abs() + 1).cast_signed();
            keyed.push((latest[topic] + delay, event));
        }
        keyed.sort_by_key(|(at, _)| *at);
        Self { events: keyed.into_iter().map(|(_, event)| event.clone()).collect(), ..self.clone() }
    }

    /// Whether all events come by one topic, so that one partition has all of them.
    pub fn has_one_topic(&self) -> bool {
        self.events.windows(2).all(|pair| pair[0].topic == pair[1].topic)
    }

    /// Whether two events that differ may have one id: which of them counts depends on the order.
    pub fn has_other_with_same_id(&self) -> bool {
        self.events.iter().enumerate().any(|(at, event)| {
            let before = &self.events[..at];
            event.id.is_some() && before.iter().any(|other| other.id == event.id && other.payload != event.payload)
        })
    }

    /// From the earliest event to the latest.
    pub fn span_ms(&self) -> Millis {
        let times = || self.events.iter().filter_map(|event| event.time);
        times().max().unwrap_or(0) - times().min().unwrap_or(0)
    }
}

fn payloads(given: &TestGiven) -> impl Iterator<Item = Vec<u8>> + '_ {
    let event = |event: &serde_json::Value| {
        let mut members: serde_json::Map<String, serde_json::Value> =
            given.defaults.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
        members.extend(event.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        serde_json::Value::Object(members).to_string().into_bytes()
    };
    let raw = given.raw.iter().map(|text| text.clone().into_bytes());
    given.events.iter().map(move |any| event(&any.0)).chain(raw)
}

/// Reads what the streams of a topic see in its records.
struct TopicReader {
    times: Vec<FieldReader>,
    key: Option<FieldReader>,
    /// Readers of the ids, if every stream has one.
    ids: Option<Vec<FieldReader>>,
    bound: Millis,
}

impl TopicReader {
    fn new(plan: &Plan, topic: usize) -> Self {
        let streams = || plan.streams.iter().filter(|stream| stream.topics.contains(&topic));
        let id = |stream: &engine::plan::StreamPlan| {
            stream.deduplicate.as_ref().map(|deduplicate| FieldReader::new(stream, deduplicate.column))
        };
        let bounds = streams().filter_map(|stream| stream.event_time.as_ref().map(|time| time.out_of_orderness_ms));
        Self {
            times: streams().filter_map(FieldReader::of_event_time).collect(),
            key: streams().find_map(|stream| stream.key.map(|key| FieldReader::new(stream, key))),
            ids: streams().map(id).collect(),
            bound: bounds.min().unwrap_or(0),
        }
    }

    fn read(&mut self, topic: usize, payload: Vec<u8>) -> Arrival {
        let time = self.times.iter_mut().find_map(|reader| match reader.read(&payload) {
            Value::Timestamp(time) => Some(time),
            _ => None,
        });
        let key = self.key.as_mut().map(|reader| match reader.read(&payload) {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Null => Vec::new(),
            other => {
                let mut text = Vec::new();
                other.write_json(&mut text);
                text
            }
        });
        let ids = self.ids.as_mut().map(|ids| ids.iter_mut().map(|id| id.read(&payload)).collect::<Vec<_>>());
        let id = ids.filter(|ids| !ids.contains(&Value::Null));
        Arrival { topic: topic as u32, time, arrival: 0, key: key.unwrap_or_default(), id, payload }
    }
}

/// Events arrive when they happen, and not before the median: only what lies far behind all others comes from the future.
fn set_arrivals(events: &mut [Arrival]) {
    let mut times: Vec<Millis> = events.iter().filter_map(|event| event.time).collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or(EPOCH);
    for event in events {
        let time = event.time.unwrap_or(median);
        event.arrival = if time <= median.saturating_add(FUTURE_MS) { time.max(median) } else { median };
    }
}

fn is_some_late(events: &[Arrival], topic: u32, bound: Millis) -> bool {
    let mut watermark = Millis::MIN;
    let mut late = false;
    for event in events.iter().filter(|event| event.topic == topic) {
        let Some(time) = event.time.filter(|time| *time <= event.arrival) else { continue };
        late |= time < watermark;
        watermark = watermark.max(time - bound);
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(times: &[Millis], bound: Millis) -> Arrivals {
        let event = |time: &Millis| Arrival {
            topic: 0,
            payload: time.to_string().into_bytes(),
            time: Some(*time),
            arrival: 1_000,
            key: Vec::new(),
            id: None,
        };
        let events: Vec<Arrival> = times.iter().map(event).collect();
        let some_late = is_some_late(&events, 0, bound);
        Arrivals { events, bounds: vec![bound], some_late }
    }

    #[test]
    fn a_shuffle_moves_events_and_makes_none_late() {
        let times: Vec<Millis> = (0..100).map(|at| at * 3).collect();
        let given = arrivals(&times, 30);
        let mut state = 7;
        let mut moved = 0;
        for _ in 0..20 {
            let shuffled = given.shuffled(&mut |bound| {
                state = crate::ingest::synthetic::random::mix(state);
                state % bound
            });
            assert!(!is_some_late(&shuffled.events, 0, 30));
            assert_eq!(shuffled.events.len(), given.events.len());
            moved += usize::from(shuffled != given);
        }
        assert_eq!(moved, 20);
    }

    #[test]
    fn late_is_what_lies_behind_the_bound() {
        assert!(!arrivals(&[100, 70, 130, 100], 30).some_late);
        assert!(arrivals(&[100, 69], 30).some_late);
        assert!(!arrivals(&[100, 5_000, 100], 30).some_late, "what is refused moves no watermark");
    }
}
