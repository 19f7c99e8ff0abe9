//! What a piece of work cost: CPU time and memory, as the kernel counts them.

use std::time::Duration;

/// CPU time of this process so far, user and system.
#[must_use]
pub fn cpu() -> Duration {
    usage(libc::RUSAGE_SELF)
}

/// CPU time of children that have ended.
#[must_use]
pub fn cpu_of_children() -> Duration {
    usage(libc::RUSAGE_CHILDREN)
}

fn usage(who: libc::c_int) -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole rusage, which the call fills; all zeros is a valid one.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |of: libc::timeval| Duration::from_secs(of.tv_sec as u64) + Duration::from_micros(of.tv_usec as u64);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Bytes of memory in use (resident set); what was freed is given back first, or the next measurement would grow into it.
#[must_use]
pub fn resident_bytes() -> u64 {
    // SAFETY: it takes an integer and touches only memory that is free.
    unsafe { libc::malloc_trim(0) };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4_096
}

/// The largest resident set of a running process so far, in bytes.
#[must_use]
pub fn peak_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let of = line("VmHWM:").or_else(|| line("VmRSS:"));
    let kib: u64 = of.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    kib * 1_024
}

/// The middle of several figures.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
