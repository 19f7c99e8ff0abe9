//! What is known of the work of one pipeline between reconciles: looks at its pods, what a pod can do, and when the number of
//! pods last changed. From it follow the figures of the status and the facts of scaling.
//!
//! A look is taken at most once in [`LOOK_EVERY`]; between looks everything stays the same, so that a status is not written
//! more often either. A new leader knows from the status what a pod can do, and nothing else: it waits longer before it takes pods away.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crds::{
    spec::{Autoscale, PipelineSpec},
    status::{LedgerStatus, PipelineStatus},
};

use crate::{
    accepted::Accepted,
    desired::{Part, Role, parts},
    figures::{Figures, History, TopicDifference, Work},
    observed::{Objects, Reading, Rollout, rollout},
    scaling::{self, Decision},
};

/// How often pods are asked, and at most written what they said.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What the status says of the work: texts that stay the same until the next look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Events a second.
    pub rate: Option<String>,
    /// Events that wait, and how long they take.
    pub lag: Option<String>,
    /// The same by topic.
    pub topics: BTreeMap<String, String>,
    /// What ingesters and sinks do, by component.
    pub parts: BTreeMap<String, PartPulse>,
    /// Topics that are otherwise than the spec says, where somebody has looked.
    pub differences: Option<Reading<Vec<TopicDifference>>>,
    /// Why pods are not ready, by component.
    pub waiting: BTreeMap<String, String>,
    /// Share of valid records.
    pub quality: Option<String>,
    /// Where every event went.
    pub ledger: Option<LedgerStatus>,
    /// Events a second that a pod was seen to do.
    pub capacity: Option<i64>,
    /// The last decision about scaling.
    pub scaling: Option<String>,
}

/// What the status says of the work of an ingester or a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartPulse {
    /// Events or rows a second.
    pub rate: Option<String>,
    /// What waits, and how long it takes.
    pub lag: Option<String>,
    /// Whether the source has ended.
    pub is_complete: bool,
}

/// The memory of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    history: History,
    capacity: Option<f64>,
    calm_since: Option<Instant>,
    /// The number of pods that was last seen wanted, and since when; without a time if it was so when we began.
    wanted: Option<(u32, Option<Instant>)>,
    decision: Option<Decision>,
}

impl Memory {
    /// What a new leader knows of a pipeline: what the last one left in the status.
    #[must_use]
    pub fn of(status: Option<&PipelineStatus>) -> Self {
        let capacity = status.and_then(|status| status.process.as_ref()?.capacity).filter(|capacity| *capacity > 0);
        Self { capacity: capacity.map(|capacity| capacity as f64), ..Self::default() }
    }

    /// Whether pods are to be asked.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.history.is_due(now, LOOK_EVERY)
    }

    /// Takes a look into account. What was decided is to be decided anew.
    pub fn look(&mut self, now: Instant, figures: Figures) {
        self.history.add(now, figures);
        self.decision = None;
    }

    /// Decides about scaling, once for every look.
    pub fn consider(&mut self, now: Instant, accepted: &Accepted, live: &Objects, name: &str) {
        if self.decision.is_some() && accepted.spec.process.autoscale.is_some() {
            return;
        }
        self.decision = None;
        let (Some(limits), Some(state)) = (&accepted.spec.process.autoscale, processing(&accepted.spec, live, name))
        else {
            return;
        };
        self.decision = Some(self.decide(now, limits, &accepted.spec, state));
    }

    fn decide(&mut self, now: Instant, limits: &Autoscale, spec: &PipelineSpec, state: Rollout) -> Decision {
        let current = u32::try_from(state.wanted).unwrap_or(0);
        match self.wanted {
            None => self.wanted = Some((current, None)),
            Some((before, _)) if before != current => self.wanted = Some((current, Some(now))),
            Some(_) => {}
        }
        let rates = self.history.rates();
        if let Reading::Known(rates) = &rates
            && state.is_done()
            && current > 0
            && scaling::is_busy(rates)
            && rates.processed > 0.0
        {
            self.capacity = Some(rates.processed / f64::from(current));
        }
        let facts = scaling::Facts {
            current,
            is_settled: state.is_done(),
            partitions: partitions(spec),
            rates,
            capacity: self.capacity,
            behind: self.history.falling_behind().map(str::to_owned),
            calm_for: self.calm_since.map_or(Duration::ZERO, |since| now.duration_since(since)),
            unchanged_for: self.wanted.and_then(|(_, since)| since).map(|since| now.duration_since(since)),
        };
        let decision = scaling::decide(limits, &facts);
        let goes_on = decision.is_calm && decision.replicas == current;
        self.calm_since = if goes_on { self.calm_since.or(Some(now)) } else { None };
        decision
    }

    /// The number of processors that the spec gets: what was decided, or what is there until something is.
    #[must_use]
    pub fn replicas(&self, spec: &PipelineSpec, live: &Objects, name: &str) -> u32 {
        let Some(limits) = spec.process.autoscale.as_ref().filter(|limits| !limits.observe_only) else {
            return spec.process.replicas;
        };
        let current = processing(spec, live, name).and_then(|state| u32::try_from(state.wanted).ok());
        match (&self.decision, current.filter(|current| *current > 0)) {
            (Some(decision), Some(_)) if decision.replicas > 0 => decision.replicas,
            (_, Some(current)) => current,
            // At the beginning, and after a suspension.
            _ => spec.process.replicas.clamp(limits.min_replicas, limits.max_replicas.max(limits.min_replicas)),
        }
    }

    /// What the status says. Without pods there is nothing to say.
    #[must_use]
    pub fn pulse(&self, Accepted { spec, hash, .. }: &Accepted) -> Pulse {
        let capacity = self.capacity.map(|capacity| capacity.round() as i64);
        let Some(figures) = self.history.last().filter(|_| !spec.suspend) else {
            return Pulse { capacity, ..Pulse::default() };
        };
        let rates = self.history.rates();
        let (rate, seconds) = match &rates {
            Reading::Known(rates) => (per_second(rates.processed, EVENTS), work_left(rates.lag, rates.processed)),
            Reading::Unknown(_) => ("Unknown".into(), String::new()),
        };
        let (lag, topics) = match &figures.processing {
            Reading::Known(known) => {
                let topic = |(name, lag): (&String, &u64)| (name.clone(), format!("{lag} events"));
                (format!("{} events{seconds}", known.lag), known.lag_of.iter().map(topic).collect())
            }
            Reading::Unknown(_) => ("Unknown".into(), BTreeMap::new()),
        };
        let part = |(component, work): (&String, &Reading<Work>)| {
            let unit = if component.starts_with(Role::Ingest.name()) { EVENTS } else { ROWS };
            (component.clone(), part(work, self.history.rate_of(component), unit))
        };
        let observes = spec.process.autoscale.as_ref().is_some_and(|limits| limits.observe_only);
        let observed = if observes { "observed only: " } else { "" };
        Pulse {
            rate: Some(rate),
            lag: Some(lag),
            topics,
            parts: figures.work.iter().map(part).collect(),
            // What was looked for is what is wanted still.
            differences: figures.topics.clone().filter(|(of, _)| of == hash).map(|(_, look)| look),
            waiting: figures.waiting.clone(),
            quality: self.history.quality().map(|share| format!("{:.2} %", share * 100.0)),
            ledger: match &figures.ledger {
                Reading::Known(ledger) => Some(ledger.clone()),
                Reading::Unknown(_) => None,
            },
            capacity,
            scaling: self.decision.as_ref().map(|decision| format!("{observed}{}", decision.why)),
        }
    }
}

/// What is counted.
const EVENTS: &str = "events";
const ROWS: &str = "rows";

fn part(work: &Reading<Work>, rate: Option<f64>, unit: &str) -> PartPulse {
    let unknown = || "Unknown".to_owned();
    let Reading::Known(work) = work else {
        return PartPulse { rate: Some(unknown()), lag: Some(unknown()), is_complete: false };
    };
    let left = |waits| rate.map(|rate| work_left(waits, rate)).unwrap_or_default();
    PartPulse {
        rate: Some(rate.map_or_else(unknown, |rate| per_second(rate, unit))),
        lag: work.waits.map(|waits| format!("{waits} {unit}{}", left(waits))),
        is_complete: work.is_complete,
    }
}

fn per_second(rate: f64, unit: &str) -> String {
    format!("{rate:.0} {unit}/s")
}

/// How long what waits takes at a rate.
fn work_left(lag: u64, rate: f64) -> String {
    match (lag, rate) {
        (0, _) => ", 0 s".into(),
        (_, rate) if rate < 1.0 => ", nothing moves".into(),
        (lag, rate) => format!(", {:.0} s", lag as f64 / rate),
    }
}

fn processing(spec: &PipelineSpec, live: &Objects, name: &str) -> Option<Rollout> {
    let part: Part = parts(spec).into_iter().find(|part| part.role == Role::Process)?;
    rollout(live, &part.object_name(name))
}

/// Most partitions of a topic that a stream reads: pods beyond it would have nothing to do.
fn partitions(spec: &PipelineSpec) -> u32 {
    let is_read = |name: &str| spec.streams.iter().any(|stream| stream.topics.iter().any(|topic| topic == name));
    let read = spec.topics.iter().filter(|topic| is_read(&topic.name));
    read.map(|topic| topic.partitions).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use crds::status::ProcessStatus;
    use serde_json::json;

    use super::*;
    use crate::{accepted::tests::accepted, figures::tests::look, observed::Kind};

    fn cluster(replicas: u32) -> Objects {
        let deployment = json!({
            "metadata": {"generation": 1}, "spec": {"replicas": replicas},
            "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas},
        });
        [((Kind::Deployment, "medallion-process".to_owned()), deployment)].into()
    }

    #[test]
    fn pods_are_added_for_a_backlog_taken_away_after_a_calm_stretch_and_kept_when_nobody_answers() {
        let mut accepted = accepted("medallion");
        accepted.spec.topics.iter_mut().for_each(|topic| topic.partitions = 8);
        let limits = Autoscale {
            min_replicas: 1,
            max_replicas: 8,
            drain_within: crds::spec::Duration::seconds(60),
            observe_only: false,
        };
        accepted.spec.process.autoscale = Some(limits);
        let (mut memory, mut now, mut replicas, mut processed) = (Memory::default(), Instant::now(), 1, 0);
        let mut tell = |figures: Option<u64>, rate: u64| {
            now += LOOK_EVERY;
            processed += rate * LOOK_EVERY.as_secs();
            let figures = figures.map_or_else(|| Figures::unknown("no broker"), |lag| look(processed, lag));
            assert!(memory.is_due(now));
            memory.look(now, figures);
            memory.consider(now, &accepted, &cluster(replicas), "medallion");
            replicas = memory.replicas(&accepted.spec, &cluster(replicas), "medallion");
            (replicas, memory.pulse(&accepted))
        };
        tell(Some(0), 1_000);
        // One pod does 1,000 a second, 3,000 arrive.
        let (more, pulse) = tell(Some(60_000), 1_000);
        assert_eq!(more, 8, "{pulse:?}");
        assert_eq!((pulse.rate.as_deref(), pulse.lag.as_deref()), (Some("1000 events/s"), Some("60000 events, 60 s")));
        assert!(pulse.scaling.unwrap().contains("a pod does 1000/s"));
        // Brokers that do not answer are no lull.
        for _ in 0..20 {
            let (same, pulse) = tell(None, 0);
            assert_eq!((same, pulse.lag.as_deref()), (8, Some("Unknown")));
        }
        let after: Vec<u32> = (0..60).map(|_| tell(Some(0), 700).0).collect();
        assert_eq!(after[9], 8, "not at once: {after:?}");
        assert_eq!(after[59], 1, "but in the end: {after:?}");
        assert!(after.windows(2).all(|pair| pair[1] <= pair[0]), "{after:?}");
    }

    #[test]
    fn between_looks_nothing_changes_and_suspended_there_is_nothing_to_say() {
        let mut accepted = accepted("medallion");
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.look(now, look(100, 3));
        assert!(!memory.is_due(now + LOOK_EVERY / 2));
        assert_eq!(memory.replicas(&accepted.spec, &cluster(7), "medallion"), accepted.spec.process.replicas);
        assert_eq!(memory.pulse(&accepted).rate.as_deref(), Some("Unknown"));
        accepted.spec.suspend = true;
        assert_eq!(memory.pulse(&accepted), Pulse::default());
    }

    #[test]
    fn what_was_found_otherwise_under_another_spec_is_not_told_of_this_one() {
        let accepted = accepted("medallion");
        for (of, is_told) in [(accepted.hash.clone(), true), ("another".into(), false)] {
            let mut memory = Memory::default();
            memory.look(Instant::now(), Figures { topics: Some((of, Reading::Known(Vec::new()))), ..look(1, 0) });
            assert_eq!(memory.pulse(&accepted).differences.is_some(), is_told);
        }
    }

    #[test]
    fn a_new_leader_knows_what_a_pod_can_do() {
        let mut accepted = accepted("medallion");
        accepted.spec.topics.iter_mut().for_each(|topic| topic.partitions = 8);
        let limits = json!({"minReplicas": 1, "maxReplicas": 8, "drainWithin": "60s"});
        accepted.spec.process.autoscale = serde_json::from_value(limits).unwrap();
        let process = ProcessStatus { capacity: Some(1_000), ..ProcessStatus::default() };
        let status = PipelineStatus { process: Some(process), ..PipelineStatus::default() };
        let decided = |mut memory: Memory| {
            let now = Instant::now();
            // Four pods with little to do: nobody sees what one can do.
            for (at, processed) in [(now, 0), (now + LOOK_EVERY, 21_000)] {
                memory.look(at, look(processed, 0));
                memory.consider(at, &accepted, &cluster(4), "medallion");
            }
            let pulse = memory.pulse(&accepted);
            (pulse.capacity, pulse.scaling.unwrap())
        };
        let (capacity, told) = decided(Memory::of(Some(&status)));
        assert!(capacity == Some(1_000) && told.starts_with("stays at 4; 1 after 5 calm minutes"), "{told}");
        let (capacity, told) = decided(Memory::of(None));
        assert!(capacity.is_none() && !told.contains("; 1 after"), "{told}");
        let mut suspended = accepted.clone();
        suspended.spec.suspend = true;
        assert_eq!(Memory::of(Some(&status)).pulse(&suspended).capacity, Some(1_000), "it outlives a rest");
    }
}
