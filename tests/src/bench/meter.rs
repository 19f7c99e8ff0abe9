//! What a piece of work cost: CPU time and memory, as the kernel counts them.

use std::time::Duration;

use anyhow::{Context as _, Result};

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

/// CPU time of a running process so far, user and system, its ended children left out.
///
/// # Errors
/// If there is no such process.
pub fn cpu_of(process: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold spaces; behind it come the third and all later fields.
    let (_, rest) = text.rsplit_once(") ").context("no name in stat")?;
    let ticks = |field: &str| field.parse::<u64>();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let (user, system) = (fields.get(11).context("no user time")?, fields.get(12).context("no system time")?);
    // SAFETY: it takes and returns integers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Duration::from_secs_f64((ticks(user)? + ticks(system)?) as f64 / per_second as f64))
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
