//! Everything that can be killed is killed while events flow: three brokers, which fall silent too, every role, all stores,
//! sleepers, a rebalance storm, damaged checkpoints, and the whole cluster gone for longer than any of its clients waits. After
//! each of these PostgreSQL, Redis, Couchbase's double and the API show what the naive reference says of the raw topic, to the
//! last row, and the ledger adds up.
//!
//! `TORTURE_RATE` are the events a second; `TORTURE_PAUSE` the seconds that sleepers sleep and stores are away;
//! `TORTURE_ROUNDS` how often every broker is killed and falls silent.
//! Needs PostgreSQL, Java and Maven (`tests/run` installs them).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::{Duration, Instant};

use tests::{
    damage::damage_newest_checkpoints,
    roles::{PATIENCE, Role, SIGCONT, SIGKILL, SIGSTOP, SIGTERM},
    torture::{EVERYWHERE, Place, RECOVERY_MAX, RECOVERY_TYPICAL, Which, World},
};

/// Events a second, unless the environment says otherwise: what a development build does on two cores shared with three
/// brokers, and catches up with after an outage.
const RATE: u64 = 20_000;

/// Seconds that sleepers sleep and stores are away, unless the environment says otherwise. Much longer than a session.
const PAUSE: u64 = 60;

/// How long all brokers are away: longer than any call of a client waits.
const OUTAGE: Duration = Duration::from_secs(70);

/// Lines that a role may log for an outage: one that it begins, one that it is over, and what its clients say once each.
const OUTAGE_LINES_MAX: usize = 40;

/// In which a storm has to be over.
const STORM_MAX: Duration = Duration::from_secs(60);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Every broker in turn; the next only when the copies are whole again.
fn brokers(world: &mut World) {
    for at in 0..world.kafka.brokers.len() {
        world.endure(&format!("broker {at} killed"), |world| world.kafka.brokers[at].kill()).unwrap();
        world.endure(&format!("broker {at} back"), |world| world.kafka.brokers[at].restart()).unwrap();
        world.kafka.wait_for_copies().unwrap();
    }
}

/// Every broker in turn falls silent, as one on a machine that vanishes: no connection is closed, and nothing is answered.
fn silent_brokers(world: &mut World) {
    for at in 0..world.kafka.brokers.len() {
        let (sold, since) = (world.sold(), Instant::now());
        world.kafka.brokers[at].process.signal(SIGSTOP).unwrap();
        world.go_on(&format!("broker {at} silent"), since, sold, &EVERYWHERE).unwrap();
        world.kafka.brokers[at].kill().unwrap();
        world.kafka.brokers[at].restart().unwrap();
        world.kafka.wait_for_copies().unwrap();
    }
}

fn roles(world: &mut World) {
    world
        .endure("processor killed", |world| {
            world.add_processor()?;
            world.processors.remove(0).running.kill().map(drop)
        })
        .unwrap();
    for which in [Which::Ingest, Which::Serve, Which::Results, Which::Rows, Which::Hashes] {
        world.endure(&format!("{which:?} killed"), |world| world.kill(which)).unwrap();
    }
}

/// One processor sleeps and all stores are away, for as long: the other takes over, and the API goes on.
fn sleeper_and_stores(world: &mut World, pause: Duration) {
    let (sold, begun) = (world.sold(), Instant::now());
    world.processors[0].running.signal(SIGSTOP).unwrap();
    world.postgres.kill();
    world.redis.kill();
    [0, 1].into_iter().for_each(|node| world.couchbase.stop(node));
    world.go_on("a processor asleep, the stores away", begun, sold, &[Place::Api]).unwrap();
    for sink in world.sinks() {
        sink.wait_until_unready().unwrap();
    }
    // It would be their fault, and nobody else's, if the API stood still meanwhile.
    while begun.elapsed() < pause {
        let (sold, since) = (world.sold(), Instant::now());
        world.go_on("meanwhile", since, sold, &[Place::Api]).unwrap();
    }
    let slept = begun.elapsed();
    world
        .endure(&format!("awake and back after {:.0} s", slept.as_secs_f64()), |world| {
            world.processors[0].running.signal(SIGCONT)?;
            world.postgres.restart();
            world.redis.restart();
            [0, 1].into_iter().try_for_each(|node| world.couchbase.resume(node))?;
            Ok(())
        })
        .unwrap();
    world.processors[0].wait_until_ready().unwrap();
}

/// Two processors become one, four, two, three; who goes is ended in order or killed, in turn.
fn storm(world: &mut World) {
    let begun = Instant::now();
    for (wanted, kill) in [(1, true), (4, false), (2, true), (3, false), (2, false)] {
        let step = |world: &mut World| {
            while world.processors.len() > wanted {
                let gone = world.processors.remove(0);
                gone.running.signal(if kill { SIGKILL } else { SIGTERM })?;
                gone.running.wait(PATIENCE)?;
            }
            while world.processors.len() < wanted {
                world.add_processor()?;
            }
            Ok(())
        };
        world.endure(&format!("{wanted} processors"), step).unwrap();
    }
    let took = begun.elapsed();
    println!("storm: {:.0} s", took.as_secs_f64());
    assert!(took < STORM_MAX + RECOVERY_MAX, "{took:?}");
}

/// All processors die, and the newest checkpoint of every task cannot be read: they begin with the one before.
fn checkpoints(world: &mut World) -> Vec<(String, u64)> {
    let mut older = Vec::new();
    world
        .endure("newest checkpoints damaged", |world| {
            for dead in world.processors.drain(..) {
                dead.running.kill()?;
            }
            older.extend(damage_newest_checkpoints(&world.checked)?);
            world.add_processor()
        })
        .unwrap();
    let replayed = "clickstream_process_replayed_records_total{epoch=\"1\"}";
    let replayed = world.processors[0].wait_for_figure(replayed, |count| count > 0.0).unwrap();
    println!("{} tasks begin with an older checkpoint, {replayed} records replayed", older.len());
    older
}

/// All brokers away for longer than any client waits: every role waits, says once why, is not ready, and goes on.
fn outage(world: &mut World) {
    let (sold, begun) = (world.sold(), Instant::now());
    world.kafka.brokers.iter_mut().for_each(|broker| broker.kill().unwrap());
    let [ingest, processor] = [&mut world.ingest, &mut world.processors[0]];
    for role in [ingest, processor] {
        role.wait_until_unready().unwrap();
    }
    println!("outage: not ready after {:.1} s", begun.elapsed().as_secs_f64());
    let mut everybody = world.everybody();
    while begun.elapsed() < OUTAGE {
        for role in &mut everybody {
            assert!(!role.running.has_ended().unwrap(), "somebody gave up: {}", role.running.complaints());
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    world.kafka.restart().unwrap();
    let back = Instant::now();
    world.go_on("all brokers back", back, sold, &EVERYWHERE).unwrap();
    world.everybody().into_iter().for_each(|role| role.wait_until_ready().unwrap());
}

/// Where a task was recovered from, the first time.
fn begins_at(log: &str, task: &str) -> Option<u64> {
    let (_, rest) = log.split_once(&format!("recovers task=\"{task}\" from="))?;
    rest.split(' ').next()?.parse().ok()
}

/// Tables and ledger are as they should be, and events go on.
fn prove(world: &mut World, after: &str) {
    world.prove(after).unwrap();
    world.resume().unwrap();
}

fn end(role: Role) -> String {
    role.running.signal(SIGTERM).unwrap();
    let ended = role.running.wait(PATIENCE).unwrap();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    ended.stderr
}

#[test]
fn whatever_is_killed_every_event_counts_once() {
    let rate = setting("TORTURE_RATE", RATE);
    let pause = Duration::from_secs(setting("TORTURE_PAUSE", PAUSE));
    let mut world = World::start(rate).unwrap();
    let begun = Instant::now();
    (0..2).for_each(|_| world.add_processor().unwrap());
    world.go_on("the first events", begun, rate as i64, &EVERYWHERE).unwrap();

    for _ in 0..setting("TORTURE_ROUNDS", 1) {
        brokers(&mut world);
        prove(&mut world, "brokers killed");
        silent_brokers(&mut world);
        prove(&mut world, "brokers silent");
    }
    roles(&mut world);
    prove(&mut world, "roles killed");
    sleeper_and_stores(&mut world, pause);
    prove(&mut world, "stores away");
    storm(&mut world);
    prove(&mut world, "storm");
    let older = checkpoints(&mut world);
    world.add_processor().unwrap();
    world.processors.iter_mut().for_each(|processor| processor.wait_until_ready().unwrap());
    let (blows, median, longest) = world.recoveries();
    println!("{blows} blows: {:.1} s in the median, {:.1} s at most", median.as_secs_f64(), longest.as_secs_f64());
    assert!(median < RECOVERY_TYPICAL, "usually it takes {median:?}");
    prove(&mut world, "checkpoints damaged");
    outage(&mut world);

    let took = begun.elapsed().as_secs_f64();
    let sold = world.prove("all brokers away").unwrap();
    println!("{:.0} events/s for {took:.0} s, all brokers away for a while of it", sold as f64 / took);
    let recovered = end(world.processors.remove(0));
    for (task, older) in &older {
        let begun = begins_at(&recovered, task).unwrap_or_else(|| panic!("{task} was never recovered:\n{recovered}"));
        assert!(begun <= *older, "{task} began at {begun}, behind {older}, where the last readable checkpoint is");
    }
    println!("all of {} tasks began with an older checkpoint", older.len());
    for role in world.processors.drain(..).chain([world.results, world.rows, world.hashes, world.serve]) {
        let told = end(role);
        let lines = told.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
        println!("{lines} warnings");
        assert!(lines <= OUTAGE_LINES_MAX, "{told}");
    }
}
