//! Times, in UTC.

use super::both_valid;
use crate::{
    column::{Column, Data},
    decimal::{Decimal, ONE},
    expr::TimeUnit,
    time::{Millis, civil_from_days, days_from_civil},
};

const DAY_MS: Millis = 86_400_000;

pub(super) fn extract(input: &Column, unit: TimeUnit, out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    let (Data::Timestamp(times), Data::Integer(results)) = (&input.data, &mut out.data) else {
        unreachable!("bug: extract from {:?}", input.type_of())
    };
    results.extend(times.iter().map(|time| part(*time, unit)));
}

fn part(time: Millis, unit: TimeUnit) -> i64 {
    let days = time.div_euclid(DAY_MS);
    let (year, month, day) = civil_from_days(days);
    match unit {
        TimeUnit::Second => time.div_euclid(1_000).rem_euclid(60),
        TimeUnit::Minute => time.div_euclid(60_000).rem_euclid(60),
        TimeUnit::Hour => time.div_euclid(3_600_000).rem_euclid(24),
        TimeUnit::Day => day,
        // 1970-01-01 was a Thursday.
        TimeUnit::DayOfWeek => (days + 4).rem_euclid(7),
        TimeUnit::Month => month,
        TimeUnit::Year => year,
    }
}

pub(super) fn truncate(input: &Column, unit: TimeUnit, out: &mut Column) {
    out.valid.extend_from_slice(&input.valid);
    let (Data::Timestamp(times), Data::Timestamp(results)) = (&input.data, &mut out.data) else {
        unreachable!("bug: date_trunc of {:?}", input.type_of())
    };
    results.extend(times.iter().map(|time| truncated(*time, unit)));
}

fn truncated(time: Millis, unit: TimeUnit) -> Millis {
    let to = |size: Millis| time - time.rem_euclid(size);
    let (year, month, _) = civil_from_days(time.div_euclid(DAY_MS));
    match unit {
        TimeUnit::Second => to(1_000),
        TimeUnit::Minute => to(60_000),
        TimeUnit::Hour => to(3_600_000),
        TimeUnit::Day => to(DAY_MS),
        // Weeks begin on Sunday, as `extract(dow)` counts.
        TimeUnit::DayOfWeek => to(DAY_MS) - (time.div_euclid(DAY_MS) + 4).rem_euclid(7) * DAY_MS,
        TimeUnit::Month => days_from_civil(year, month, 1) * DAY_MS,
        TimeUnit::Year => days_from_civil(year, 1, 1) * DAY_MS,
    }
}

pub(super) fn seconds_between(left: &Column, right: &Column, out: &mut Column) {
    both_valid(left, right, out);
    let (Data::Timestamp(lefts), Data::Timestamp(rights), Data::Decimal(results)) =
        (&left.data, &right.data, &mut out.data)
    else {
        unreachable!("bug: seconds between {:?} and {:?}", left.type_of(), right.type_of())
    };
    let seconds = |(left, right): (&Millis, &Millis)| Decimal(i128::from(left - right) * (ONE / 1_000));
    results.extend(lefts.iter().zip(rights).map(seconds));
}
