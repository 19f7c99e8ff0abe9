//! The funnel against the page: every passage simulated by itself, whole input in memory.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    codec::Reader,
    expr::Expr,
    plan::FunnelStepPlan,
    time::{END_OF_TIME, window_start},
    value::{Type, Value},
};

const WITHIN: Millis = 60;
const FORGET: Millis = 150;

fn plan(undoable: u16) -> FunnelPlan {
    let yes = || Expr::Literal(Value::Boolean(true), Type::Boolean);
    let step = |at: u16| FunnelStepPlan {
        name: format!("s{at}"),
        when: yes(),
        undone_by: (undoable >> at & 1 == 1).then(yes),
    };
    let steps = (0..3).map(step).collect();
    FunnelPlan { by: yes(), within_ms: WITHIN, same_key: None, steps, forget_after_ms: FORGET }
}

/// An event, with fields in the order in which events of an entity are taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    entity: u8,
    time: Millis,
    id: Vec<u8>,
    reached: u16,
    undone: u16,
    key: Vec<u8>,
    group: Vec<u8>,
}

impl Sample {
    fn apply(&self, state: &mut FunnelState, watermark: Millis) -> bool {
        let Self { time, reached, undone, .. } = *self;
        let event = FunnelEvent { time, id: &self.id, reached, undone, same_key: &self.key, group: &self.group };
        state.apply(&[self.entity], event, watermark)
    }
}

type Totals = BTreeMap<(Option<Millis>, Vec<u8>), (Vec<i64>, i64, i128)>;

fn count(totals: &mut Totals, window: Option<Millis>, group: &[u8], steps: &[i64], converted: i64, converted_ms: i128) {
    let total = totals.entry((window, group.to_vec())).or_insert((vec![0; 3], 0, 0));
    total.0.iter_mut().zip(steps).for_each(|(total, count)| *total += count);
    total.1 += converted;
    total.2 += converted_ms;
    totals.retain(|_, total| *total != (vec![0; 3], 0, 0));
}

fn naive(mut events: Vec<Sample>, window: Window) -> Totals {
    let mut totals = Totals::new();
    events.retain(|event| event.reached | event.undone != 0);
    events.sort();
    for entity in events.chunk_by(|a, b| a.entity == b.entity) {
        let pause = |a: &Sample, b: &Sample| window != Window::None || b.time - a.time <= FORGET;
        for life in entity.chunk_by(pause) {
            naive_life(life, window, &mut totals);
        }
    }
    totals
}

fn naive_life(events: &[Sample], window: Window, totals: &mut Totals) {
    let mut bests = BTreeMap::new();
    for (at, start) in events.iter().enumerate().filter(|(_, event)| event.reached & 1 != 0) {
        let (mut stands, mut arrived) = ([true, false, false], None);
        for event in &events[at + 1..] {
            if event.key != start.key || event.time > start.time + WITHIN {
                continue;
            }
            (0..3).filter(|step| event.undone >> step & 1 != 0).for_each(|step| stands[step] = false);
            for step in (1..3).rev() {
                if event.reached >> step & 1 != 0 && stands[step - 1] {
                    stands[step] = true;
                }
            }
            arrived = arrived.or(stands[2].then_some(event.time - start.time));
        }
        let Some(deepest) = stands.iter().rposition(|stands| *stands) else { continue };
        let bucket = match window {
            Window::Tumbling { size_ms } => Some(window_start(start.time, size_ms)),
            _ => None,
        };
        let best = bests.entry(bucket).or_insert((deepest, at, arrived));
        if deepest >= best.0 {
            *best = (deepest, at, arrived);
        }
    }
    for (bucket, (deepest, at, arrived)) in bests {
        let steps: Vec<i64> = (0..3).map(|step| i64::from(step <= deepest)).collect();
        let took = if deepest == 2 { arrived.unwrap() } else { 0 };
        count(totals, bucket, &events[at].group, &steps, i64::from(deepest == 2), took.into());
    }
}

fn drain(state: &mut FunnelState, totals: &mut Totals) {
    let mut before = None;
    state.drain(&mut |change| {
        let key = (change.window_start, change.group.to_vec());
        assert!(before.as_ref().is_none_or(|before| *before < key), "in order");
        before = Some(key);
        count(totals, change.window_start, change.group, change.steps, change.converted, change.converted_ms);
    });
}

fn bytes_of(state: &FunnelState) -> Vec<u8> {
    let mut out = Vec::new();
    state.snapshot(&mut out);
    out
}

fn sample(times: Millis, undoable: u16) -> impl Strategy<Value = Sample> {
    let short = |max: u8| (0..=max).prop_map(|byte| if byte == 0 { vec![] } else { vec![byte] });
    let bits = prop_oneof![4 => Just(1_u16), 3 => Just(2), 2 => Just(4), 2 => 0_u16..8];
    let undone = prop_oneof![4 => Just(0_u16), 1 => 0_u16..8];
    let fields = (0_u8..3, 0..times, short(2), bits, undone, short(2), short(2));
    fields.prop_map(move |(entity, time, id, reached, undone, key, group)| Sample {
        entity,
        time,
        id,
        reached,
        undone: undone & undoable,
        key,
        group,
    })
}

/// Events with how late each arrives, the bits of steps that can be undone, and the window.
fn cases() -> impl Strategy<Value = (u16, Window, Vec<(Sample, Millis)>)> {
    let undoable = prop_oneof![2 => Just(0_u16), 1 => Just(2_u16), 2 => 0_u16..8];
    let window = prop_oneof![Just(Window::None), (20_i64..200).prop_map(|size_ms| Window::Tumbling { size_ms })];
    let times = prop_oneof![Just(100_i64), Just(1_500)];
    (undoable, window, times).prop_flat_map(|(undoable, window, times)| {
        let delay = prop_oneof![4 => 0_i64..40, 1 => 0_i64..300];
        (Just(undoable), Just(window), vec((sample(times, undoable), delay), 0..60))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_funnel_is_what_the_page_says(
        (undoable, window, mut arrivals) in cases(),
        lateness in 0_i64..60,
        acts in vec(0_u8..12, 60),
    ) {
        let plan = plan(undoable);
        let mut state = FunnelState::new(&plan, window, lateness);
        let (mut totals, mut taken, mut watermark) = (Totals::new(), Vec::new(), BEGINNING_OF_TIME);
        arrivals.sort_by_key(|(event, delay)| event.time + delay);
        for ((event, _), act) in arrivals.into_iter().zip(acts) {
            let in_time = event.time >= watermark.saturating_sub(lateness);
            prop_assert_eq!(event.apply(&mut state, watermark), in_time);
            watermark = watermark.max(event.time - 30);
            taken.extend(in_time.then_some(event));
            match act {
                0..3 => state.advance(watermark),
                3..5 => {
                    state.advance(watermark);
                    drain(&mut state, &mut totals);
                    prop_assert_eq!(&totals, &naive(taken.clone(), window));
                }
                5 => {
                    let bytes = bytes_of(&state);
                    let mut reader = Reader::new(&bytes);
                    state = FunnelState::restore(&plan, window, lateness, &mut reader).unwrap();
                    prop_assert!(reader.is_empty());
                    prop_assert_eq!(bytes_of(&state), bytes);
                }
                _ => {}
            }
        }
        state.advance(END_OF_TIME);
        drain(&mut state, &mut totals);
        prop_assert_eq!(&totals, &naive(taken, window));
        state.advance(END_OF_TIME);
        prop_assert_eq!(state.entities(), 0);
        drain(&mut state, &mut totals);
        prop_assert_eq!(state.unsettled(), 0);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        (undoable, window, arrivals) in cases(), at: Index, byte: u8, cut: Index
    ) {
        let plan = plan(undoable);
        let mut state = FunnelState::new(&plan, window, 1_000);
        arrivals.iter().for_each(|(event, delay)| {
            event.apply(&mut state, delay - 300);
        });
        state.drain(&mut |_| {});
        arrivals.iter().take(9).for_each(|(event, _)| {
            event.apply(&mut state, 0);
        });
        let mut bytes = bytes_of(&state);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len() * 4).max(1));
        if let Ok(mut state) = FunnelState::restore(&plan, window, 1_000, &mut Reader::new(&bytes)) {
            arrivals.iter().for_each(|(event, _)| {
                event.apply(&mut state, 0);
            });
            state.drain(&mut |_| {});
            state.advance(END_OF_TIME);
            state.drain(&mut |_| {});
        }
    }
}

/// Applies (time, reached, undone) of one entity and returns the counts of the steps.
fn steps(undoable: u16, events: &[(Millis, u16, u16)]) -> Vec<i64> {
    let mut state = FunnelState::new(&plan(undoable), Window::None, 0);
    for (time, reached, undone) in events.iter().copied() {
        let event = FunnelEvent { time, id: b"", reached, undone, same_key: b"", group: b"" };
        assert!(state.apply(b"ann", event, BEGINNING_OF_TIME));
    }
    let mut totals = Totals::new();
    drain(&mut state, &mut totals);
    totals.into_values().next().map_or(vec![0; 3], |total| total.0)
}

#[test]
fn passages_read_like_the_page() {
    let (view, cart, buy) = (1, 2, 4);
    assert_eq!(steps(0, &[(0, view, 0), (10, cart, 0), (60, buy, 0)]), [1, 1, 1]);
    assert_eq!(steps(0, &[(0, view, 0), (10, cart, 0), (61, buy, 0)]), [1, 1, 0], "past the bound");
    assert_eq!(steps(0, &[(10, cart, 0), (0, view, 0)]), [1, 1, 0], "out of order");
    assert_eq!(steps(0, &[(0, view | cart | buy, 0)]), [1, 0, 0], "one event, one step");
    assert_eq!(steps(0, &[(0, view, 0), (1, cart | buy, 0)]), [1, 1, 0], "one event, one step");
    assert_eq!(steps(2, &[(0, view, 0), (1, cart, 0), (2, 0, cart)]), [1, 0, 0], "undone");
    assert_eq!(steps(2, &[(0, view, 0), (1, cart, 0), (2, 0, cart), (3, buy, 0)]), [1, 0, 0], "nothing to buy");
    assert_eq!(steps(2, &[(0, view, 0), (1, cart, 0), (2, buy, 0), (3, 0, cart)]), [1, 1, 1], "bought before");
    // The passage from 0 is out of the undo's reach, though the one from 50 is not.
    assert_eq!(steps(2, &[(0, view, 0), (50, view, 0), (55, cart, 0), (70, 0, cart)]), [1, 1, 0]);
    assert_eq!(steps(0, &[(0, view, 0), (151, view, 0)]), [2, 0, 0], "forgotten and counted anew");
}

#[test]
fn a_robot_is_bounded_and_late_events_before_its_bound_are_refused() {
    let mut state = FunnelState::new(&plan(2), Window::None, 1_000_000);
    let event = |time| FunnelEvent { time, id: b"id", reached: 1, undone: 0, same_key: b"", group: b"" };
    (0..20_000).for_each(|time| assert!(state.apply(b"robot", event(time), BEGINNING_OF_TIME)));
    assert!(state.unsettled() <= FUNNEL_EVENTS_MAX);
    assert!(!state.apply(b"robot", event(3), BEGINNING_OF_TIME));
    let mut totals = Totals::new();
    drain(&mut state, &mut totals);
    assert_eq!(totals[&(None, vec![])].0, [1, 0, 0]);
}

#[test]
fn strings_that_nothing_refers_to_are_collected() {
    let mut state = FunnelState::new(&plan(0), Window::Tumbling { size_ms: 50 }, 0);
    for time in 0..20_000_i64 {
        let key = time.to_le_bytes();
        let event = FunnelEvent { time, id: b"", reached: 1, undone: 0, same_key: &key, group: b"g" };
        assert!(state.apply(b"ann", event, time - 10));
        if time % 100 == 0 {
            state.advance(time - 10);
            state.drain(&mut |_| {});
        }
    }
    assert!(state.strings.len() < 3_000, "{}", state.strings.len());
}
