//! How many processors: from what arrives, what waits and what a pod was seen to do. Pure: the same facts give the same number.
//!
//! `needed = (arriving + waiting / drainWithin) / (what a pod does x 0.8)`, moved up to the next number of pods that
//! shortens the longest share of partitions. Up at once; down one useful number at a time, after a calm stretch; never from
//! what is unknown, while pods start, or while a backlog is worked off; never up while a sink is what falls behind.

use std::time::Duration;

use crds::spec::Autoscale;

use crate::{figures::Rates, observed::Reading};

/// Share of a pod's measured work that is planned with: the rest is for peaks and recovery.
const LOAD_MAX: f64 = 0.8;

/// Fewer pods are enough for this long before one step down is made: three rebalances of 45 s and what they cost are gone by
/// then, and so are most lulls.
pub const CALM_FOR: Duration = Duration::from_secs(300);

/// After a change the figures are about the rebalance; looks every 30 s: two of them pass.
const REST: Duration = Duration::from_secs(60);

/// A backlog of more than this many seconds of work shows that the pods do what they can.
const BUSY_SECONDS: f64 = 2.0;

/// What is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Pods that are wanted now.
    pub current: u32,
    /// Whether they are all ready, and of the newest template.
    pub is_settled: bool,
    /// Most partitions of a topic that is read.
    pub partitions: u32,
    /// What goes in and out.
    pub rates: Reading<Rates>,
    /// What a pod was seen to do when it had enough to do, in events a second.
    pub capacity: Option<f64>,
    /// The sink that falls behind, if one does.
    pub behind: Option<String>,
    /// For how long fewer pods would have been enough.
    pub calm_for: Duration,
    /// Time since the number was changed.
    pub unchanged_for: Option<Duration>,
}

/// What is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Pods.
    pub replicas: u32,
    /// Whether fewer would be enough by these facts alone.
    pub is_calm: bool,
    /// Why, with the figures.
    pub why: String,
}

/// Numbers of pods that differ in the longest share of partitions that one pod gets: of 8 they are 1, 2, 3, 4 and 8.
#[must_use]
pub fn useful(partitions: u32) -> Vec<u32> {
    let partitions = partitions.max(1);
    let mut numbers: Vec<u32> = (1..=partitions).map(|pods| partitions.div_ceil(partitions.div_ceil(pods))).collect();
    numbers.dedup();
    numbers
}

/// Numbers of pods that may be chosen from.
fn choices(limits: &Autoscale, partitions: u32) -> Vec<u32> {
    let most = limits.max_replicas.min(partitions.max(1));
    let least = limits.min_replicas.min(most);
    let mut choices: Vec<u32> = useful(partitions).into_iter().filter(|pods| (least..=most).contains(pods)).collect();
    if choices.first() != Some(&least) {
        choices.insert(0, least);
    }
    choices
}

/// Decides.
#[must_use]
pub fn decide(limits: &Autoscale, facts: &Facts) -> Decision {
    let choices = choices(limits, facts.partitions);
    let (least, top) = (choices[0], choices[choices.len() - 1]);
    let most = limits.max_replicas.min(facts.partitions.max(1)).max(least);
    let stay = |is_calm: bool, why: String| Decision { replicas: facts.current, is_calm, why };
    if !(least..=most).contains(&facts.current) {
        let replicas = facts.current.clamp(least, most);
        return Decision { replicas, is_calm: false, why: format!("{replicas}: the limits are {least} to {most}") };
    }
    let rates = match &facts.rates {
        Reading::Known(rates) => rates,
        Reading::Unknown(why) => return stay(false, format!("stays at {}: {why}", facts.current)),
    };
    let told = told(rates, facts.capacity);
    if !facts.is_settled {
        return stay(false, format!("stays at {} until its pods are ready: {told}", facts.current));
    }
    if facts.unchanged_for.is_some_and(|time| time < REST) {
        return stay(false, format!("stays at {}, which is new: {told}", facts.current));
    }
    let drain = (limits.drain_within.millis as f64 / 1_000.0).max(1.0);
    let is_behind = is_busy(rates);
    let wanted = match facts.capacity {
        Some(capacity) => {
            let pods = (rates.arriving + rates.lag as f64 / drain) / (capacity * LOAD_MAX);
            let pods = if pods.is_finite() { pods.ceil() as u32 } else { facts.current };
            choices.iter().copied().find(|choice| *choice >= pods).unwrap_or(top)
        }
        // No pod was ever busy: one step fewer will show what a pod does, if it is too few.
        None => choices.iter().copied().rfind(|choice| *choice < facts.current).unwrap_or(facts.current),
    };
    if wanted > facts.current
        && let Some(sink) = &facts.behind
    {
        let why = format!(
            "stays at {}, not {wanted}: sink {sink} falls behind, more would only fill its topics",
            facts.current
        );
        return stay(false, format!("{why}: {told}"));
    }
    if wanted > facts.current {
        return Decision { replicas: wanted, is_calm: false, why: format!("{wanted}, from {}: {told}", facts.current) };
    }
    if wanted == facts.current || is_behind {
        return stay(false, format!("stays at {}: {told}", facts.current));
    }
    if facts.calm_for < CALM_FOR {
        let minutes = CALM_FOR.as_secs() / 60;
        return stay(true, format!("stays at {}; {wanted} after {minutes} calm minutes: {told}", facts.current));
    }
    let lower = choices.iter().copied().rfind(|choice| *choice < facts.current).unwrap_or(facts.current);
    Decision { replicas: lower, is_calm: true, why: format!("{lower}, from {}: {told}", facts.current) }
}

/// Whether so much waits that the pods do what they can.
#[must_use]
pub fn is_busy(rates: &Rates) -> bool {
    rates.lag as f64 > rates.processed * BUSY_SECONDS && rates.lag > 0
}

fn told(rates: &Rates, capacity: Option<f64>) -> String {
    let pod = capacity.map_or_else(|| "no pod was busy yet".into(), |rate| format!("a pod does {rate:.0}/s"));
    format!("{:.0} events/s arrive, {} wait, {pod}", rates.arriving, rates.lag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(least: u32, most: u32) -> Autoscale {
        let drain_within = crds::spec::Duration::seconds(300);
        Autoscale { min_replicas: least, max_replicas: most, drain_within, observe_only: false }
    }

    fn facts(current: u32, arriving: f64, lag: u64, capacity: Option<f64>) -> Facts {
        let processed = arriving.min(capacity.unwrap_or(arriving) * f64::from(current));
        Facts {
            current,
            is_settled: true,
            partitions: 12,
            rates: Reading::Known(Rates { arriving, processed, lag }),
            capacity,
            behind: None,
            calm_for: Duration::ZERO,
            unchanged_for: None,
        }
    }

    #[test]
    fn pods_follow_what_arrives_and_what_waits() {
        let calm = |facts: Facts| Facts { calm_for: CALM_FOR, ..facts };
        let unknown = |facts: Facts| Facts { rates: Reading::Unknown("brokers are gone".into()), ..facts };
        let starting = |facts: Facts| Facts { is_settled: false, ..facts };
        let new = |facts: Facts| Facts { unchanged_for: Some(Duration::from_secs(10)), ..facts };
        let behind = |facts: Facts| Facts { behind: Some("gold".into()), ..facts };
        for (what, facts, want) in [
            ("enough", facts(2, 1_500.0, 0, Some(1_000.0)), 2),
            ("more arrives than pods can do", facts(2, 2_000.0, 9_000, Some(1_000.0)), 3),
            ("5 would do no more than 4, of 12 partitions", facts(2, 3_500.0, 9_000, Some(1_000.0)), 6),
            ("a backlog has to be gone in 300 s", facts(2, 1_000.0, 900_000, Some(1_000.0)), 6),
            ("never more than partitions", facts(6, 90_000.0, 90_000_000, Some(1_000.0)), 12),
            ("a sink is what falls behind", behind(facts(2, 2_000.0, 9_000, Some(1_000.0))), 2),
            ("fewer take nothing from a sink that falls behind", calm(behind(facts(6, 500.0, 0, Some(1_000.0)))), 4),
            ("limits hold whatever a sink does", behind(facts(20, 0.0, 0, None)), 12),
            ("fewer, but not at once", facts(6, 500.0, 0, Some(1_000.0)), 6),
            ("one useful number at a time", calm(facts(6, 500.0, 0, Some(1_000.0))), 4),
            ("never fewer while a backlog is worked off", calm(facts(6, 500.0, 50_000, Some(1_000.0))), 6),
            ("nothing from what is unknown", calm(unknown(facts(6, 0.0, 0, Some(1_000.0)))), 6),
            ("nothing while pods start", starting(facts(2, 9_000.0, 9_000, Some(1_000.0))), 2),
            ("nothing right after a change", new(facts(2, 9_000.0, 9_000, Some(1_000.0))), 2),
            ("no pod was ever busy", calm(facts(6, 500.0, 0, None)), 4),
            ("a backlog of nobody knows what", calm(facts(6, 500.0, 50_000, None)), 6),
            ("limits are the user's word", facts(20, 0.0, 0, None), 12),
        ] {
            let decision = decide(&limits(1, 64), &facts);
            assert_eq!(decision.replicas, want, "{what}: {}", decision.why);
        }
        assert_eq!(decide(&limits(3, 5), &facts(1, 0.0, 0, None)).replicas, 3);
        assert_eq!(useful(8), [1, 2, 3, 4, 8]);
        assert_eq!(useful(12), [1, 2, 3, 4, 6, 12]);
    }

    proptest! {
        /// Within the limits and never above the partitions; from Unknown nothing; more waiting never means fewer pods.
        #[test]
        fn whatever_is_measured(
            (least, more) in (1..20_u32, 0..40_u32), partitions in 1..64_u32, current in 0..80_u32,
            arriving in 0.0..1e6_f64, lag in 0..10_000_000_u64, capacity in proptest::option::of(0.1..1e5_f64),
            calm in 0..600_u64, is_settled: bool, is_known: bool, is_behind: bool,
        ) {
            let limits = limits(least, least + more);
            let mut facts = facts(current, arriving, lag, capacity);
            facts.partitions = partitions;
            facts.is_settled = is_settled;
            facts.calm_for = Duration::from_secs(calm);
            facts.behind = is_behind.then(|| "gold".into());
            if !is_known {
                facts.rates = Reading::Unknown("gone".into());
            }
            let decision = decide(&limits, &facts);
            prop_assert!(decision.replicas >= 1 && decision.replicas <= partitions.min(least + more));
            let was_within = current >= least.min(partitions) && current <= (least + more).min(partitions);
            prop_assert!(decision.replicas == current || !was_within || (is_known && is_settled));
            prop_assert!(!(was_within && is_behind) || decision.replicas <= current);
            if was_within && decision.replicas < current {
                prop_assert!(facts.calm_for >= CALM_FOR);
            }
            if let Reading::Known(rates) = &mut facts.rates {
                rates.lag = rates.lag * 2 + 1;
                prop_assert!(decide(&limits, &facts).replicas >= decision.replicas);
            }
        }
    }
}
