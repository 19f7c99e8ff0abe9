//! Five hundred seeds of the simulator. `SIMULATION_SEEDS` says how many, `SIMULATION_FROM` where they begin.
//!
//! A failure names its seed; `cargo run -p tests --bin simulate -- --seed N` plays it again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use tests::simulation;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn tables_survive_whatever_goes_wrong() {
    let from = number("SIMULATION_FROM", 0);
    let report = simulation::many(from..from + number("SIMULATION_SEEDS", 500));
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    // A world in which nothing goes wrong proves nothing.
    let total = report.total;
    assert!(total.crashes > 0 && total.fenced > 0 && total.recovered > 0 && total.rows > 0, "{total:?}");
}
