//! Plays seeds of the simulator: `simulate --seed N` one of them, `simulate --seeds N [--from M]` many.

use std::process::ExitCode;

use tests::simulation;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut from, mut count) = (0, 500);
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (argument.as_str(), number) {
            ("--seed", Some(seed)) => (from, count) = (seed, 1),
            ("--seeds", Some(seeds)) => count = seeds,
            ("--from", Some(seed)) => from = seed,
            _ => {
                eprintln!("usage: simulate --seed N | --seeds N [--from N]");
                return ExitCode::from(2);
            }
        }
    }
    let report = simulation::many(from..from.saturating_add(count));
    for failure in &report.failures {
        eprintln!("{failure}");
    }
    println!("{} of {count} seeds failed; {:?}", report.failures.len(), report.total);
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
