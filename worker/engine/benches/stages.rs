//! What a funnel and a join cost for each event, in nanoseconds of CPU: `cargo bench -p engine --bench stages`.
//!
//! The events have the shape of the yardstick W2: 50,000 users, 1,000 products, seven views to two carts to one
//! purchase, 1,000 events a second of event time, out of order by up to 30 s. The watermark moves every 10,000 events.
//! A drain visits every entity that had an event since the last, so its cost depends on how often it is called.

use std::{hint::black_box, time::Instant};

use engine::{
    expr::Expr,
    funnel::{FunnelEvent, FunnelState},
    join::JoinState,
    plan::{FunnelPlan, FunnelStepPlan, JoinPlan, Window},
    time::{END_OF_TIME, Millis},
    value::{Type, Value},
};

const EVENTS: usize = 2_000_000;
const USERS: u64 = 50_000;
const PRODUCTS: u64 = 1_000;
const PROMOTIONS: u64 = 5_000;
const DISORDER_MS: Millis = 30_000;
const HOUR_MS: Millis = 3_600_000;
const START: Millis = 1_763_700_000_000;

fn main() {
    let events = events(USERS);
    let hours = Window::Tumbling { size_ms: HOUR_MS };
    let rare = Funnel { name: "funnel", window: hours, undoable: 0, lateness_ms: 0, drain_every: 500_000 };
    rare.measure(&events);
    Funnel { name: "funnel, drained every 10,000", drain_every: 10_000, ..rare }.measure(&events);
    Funnel { name: "funnel, lateness 15 min", lateness_ms: HOUR_MS / 4, ..rare }.measure(&events);
    Funnel { name: "funnel, carts undone", undoable: 2, ..rare }.measure(&events);
    let endless = Funnel { name: "funnel without windows", window: Window::None, ..rare };
    endless.measure(&events);
    Funnel { name: "funnel without windows, carts undone", undoable: 2, ..endless }.measure(&events);
    join(&events);
    drop(events);
    let robots = self::events(50);
    Funnel { name: "funnel of 50 robots", drain_every: 10_000, ..rare }.measure(&robots);
    Funnel { name: "funnel of 50 robots, carts undone", undoable: 2, drain_every: 10_000, ..rare }.measure(&robots);
}

/// What is measured of funnels.
#[derive(Clone, Copy)]
struct Funnel {
    name: &'static str,
    window: Window,
    /// Bits of the steps that some views undo.
    undoable: u16,
    lateness_ms: Millis,
    drain_every: usize,
}

/// An event with its bytes made in advance, as they lie in a shuffle message.
struct Event {
    time: Millis,
    user: Vec<u8>,
    id: Vec<u8>,
    product: Vec<u8>,
    device: &'static [u8],
    reached: u16,
}

fn events(users: u64) -> Vec<Event> {
    let mut random = Random(42);
    let events = (0..EVENTS as u64).map(|at| {
        let reached = match random.below(10) {
            0..7 => 1,
            7..9 => 2,
            _ => 4,
        };
        Event {
            time: START + at as Millis - random.below(DISORDER_MS as u64) as Millis,
            user: format!("user_{:05}", random.below(users)).into_bytes(),
            id: format!("evt_{at:08}").into_bytes(),
            product: format!("prod_{:04}", random.below(PRODUCTS)).into_bytes(),
            device: [b"mobile".as_slice(), b"desktop", b"tablet"][random.below(3) as usize],
            reached,
        }
    });
    events.collect()
}

impl Funnel {
    fn measure(self, events: &[Event]) {
        let mut state = FunnelState::new(&self.plan(), self.window, self.lateness_ms);
        let (mut watermark, mut drained) = (Millis::MIN, 0);
        let started = Clock::start();
        for (at, event) in events.iter().enumerate() {
            let undone = if event.reached == 1 && at % 13 == 0 { self.undoable } else { 0 };
            let Event { time, reached, .. } = *event;
            let projected = FunnelEvent { time, id: &event.id, reached, undone, same_key: b"", group: event.device };
            assert!(state.apply(&event.user, projected, watermark), "nothing is late");
            if at % 10_000 == 9_999 {
                watermark = START + at as Millis - DISORDER_MS;
                state.advance(watermark);
            }
            if (at + 1).is_multiple_of(self.drain_every) {
                state.drain(&mut |change| drained += black_box(change).steps.len());
            }
        }
        started.report(self.name, events.len());
        let (started, mut bytes) = (Clock::start(), Vec::new());
        state.snapshot(&mut bytes);
        started.report("    its checkpoint", events.len());
        println!("    of {} bytes, {} entities, {} unsettled", bytes.len(), state.entities(), state.unsettled());
    }

    fn plan(self) -> FunnelPlan {
        let yes = || Expr::Literal(Value::Boolean(true), Type::Boolean);
        let step = |at: u16| FunnelStepPlan {
            name: String::new(),
            when: yes(),
            undone_by: (self.undoable >> at & 1 == 1).then(yes),
        };
        let steps = (0..3).map(step).collect();
        FunnelPlan { by: yes(), within_ms: HOUR_MS, same_key: None, steps, forget_after_ms: 30 * 24 * HOUR_MS }
    }
}

fn join(events: &[Event]) {
    let key = || Expr::Column(0, Type::String);
    let plan = JoinPlan {
        name: String::new(),
        left: 0,
        right: 1,
        left_key: key(),
        right_key: key(),
        start: 0,
        end: 1,
        within_ms: 24 * HOUR_MS,
        columns: vec![],
    };
    let mut state = JoinState::new(&plan);
    let mut random = Random(7);
    for at in 0..PROMOTIONS {
        let product = format!("prod_{:04}", random.below(PRODUCTS));
        let start = START - HOUR_MS + random.below(2 * HOUR_MS as u64) as Millis;
        let end = start + random.below(HOUR_MS as u64) as Millis;
        state.right(product.as_bytes(), start, end, b"", format!("promotion_{at:04},0.15").as_bytes());
    }
    let (mut pairs, mut waiting) = (0_u64, 0);
    let started = Clock::start();
    for (at, event) in events.iter().enumerate() {
        state.left(&event.product, event.time, &event.id, &event.user);
        if at % 10_000 == 9_999 {
            waiting = waiting.max(state.waiting());
            let watermark = START + at as Millis - DISORDER_MS;
            state.advance(watermark, watermark, &mut |pair| pairs += u64::from(!black_box(pair).right.is_empty()));
        }
    }
    state.advance(END_OF_TIME, END_OF_TIME, &mut |pair| pairs += u64::from(!black_box(pair).right.is_empty()));
    started.report("join against 5,000 promotions", EVENTS);
    println!("    {pairs} pairs, {waiting} left rows waiting at most");
}

/// Time this thread has run, where the system tells (Linux), else time that has passed.
struct Clock {
    cpu_ns: Option<u64>,
    wall: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { cpu_ns: Self::cpu_ns(), wall: Instant::now() }
    }

    fn report(&self, name: &str, events: usize) {
        let wall_ns = self.wall.elapsed().as_nanos() as u64;
        let cpu_ns = Self::cpu_ns().zip(self.cpu_ns).map(|(now, before)| now - before);
        println!("{name:40} {:6} ns/event", cpu_ns.unwrap_or(wall_ns) / events as u64);
    }

    fn cpu_ns() -> Option<u64> {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
