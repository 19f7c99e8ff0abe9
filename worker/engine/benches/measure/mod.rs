//! What the benchmarks of decoding, kernels and ids share: a clock of CPU time and a generator of numbers.

#![allow(dead_code, reason = "not every benchmark uses all of it")]

use std::time::Instant;

/// Runs `round` over `count` things for five spells of a quarter of a second, and prints the quickest spell's mean, which
/// the machine disturbed least.
pub fn quickest(name: &str, count: usize, mut round: impl FnMut()) {
    let spell = |round: &mut dyn FnMut()| {
        let (start, mut rounds) = (now_ns(), 0);
        while now_ns() - start < 250_000_000 {
            round();
            rounds += 1;
        }
        (now_ns() - start) as f64 / rounds as f64 / count as f64
    };
    let best = (0..5).map(|_| spell(&mut round)).fold(f64::INFINITY, f64::min);
    println!("{name:44} {best:8.1} ns each");
}

/// Time this thread has run, where the system tells (Linux), else time that passes.
pub fn now_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let wall = || START.get_or_init(Instant::now).elapsed().as_nanos() as u64;
    cpu_ns().unwrap_or_else(wall)
}

fn cpu_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
