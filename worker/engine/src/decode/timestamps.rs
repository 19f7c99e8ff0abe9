//! RFC 3339 times by hand: `YYYY-MM-DD(T| )hh:mm[:ss[.f…]][Z|±hh[:]mm|±hh]`; no offset means UTC.

use crate::time::{Millis, TIME_MAX, days_from_civil};

/// Reads a time, rounded down to milliseconds. A leap second is the first second of the next minute. `None` where the text
/// is anything else, a day that does not exist, or outside the years that events may have.
#[must_use]
pub fn timestamp(text: &[u8]) -> Option<Millis> {
    let (date, rest) = text.split_at_checked(16)?;
    let separators = date[4] == b'-' && date[7] == b'-' && matches!(date[10], b'T' | b't' | b' ') && date[13] == b':';
    let year = two(date, 0)? * 100 + two(date, 2)?;
    let (month, day, hour, minute) = (two(date, 5)?, two(date, 8)?, two(date, 11)?, two(date, 14)?);
    let real = (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month) && hour <= 23 && minute <= 59;
    if !separators || !real {
        return None;
    }
    let (second, ms, rest) = seconds(rest)?;
    let offset_minutes = offset(rest)?;
    let minutes = (days_from_civil(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    let time = (minutes * 60 + second) * 1_000 + ms;
    (time.unsigned_abs() <= TIME_MAX as u64).then_some(time)
}

#[inline]
fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then_some(i64::from(tens) * 10 + i64::from(ones))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Reads `[:ss[.f…]]`: seconds, milliseconds, what follows.
#[inline]
fn seconds(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b":") else { return Some((0, 0, text)) };
    let second = two(rest, 0).filter(|second| *second <= 60)?;
    let rest = &rest[2..];
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((second, 0, rest)) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digit = |at: usize| if at < digits { i64::from(fraction[at] - b'0') } else { 0 };
    (digits > 0).then(|| (second, digit(0) * 100 + digit(1) * 10 + digit(2), &fraction[digits..]))
}

/// Reads the offset from UTC in minutes, to the end of the text.
#[inline]
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let minutes = match digits.len() {
        2 => 0,
        4 => two(digits, 2)?,
        5 if digits[2] == b':' => two(digits, 3)?,
        _ => return None,
    };
    let hours = two(digits, 0)?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset_or_not_at_all() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(timestamp(text.as_bytes()).map(crate::time::rfc3339).as_deref(), want, "{text}");
        };
        check("2025-11-21T04:40:00Z", Some("2025-11-21T04:40:00Z"));
        check("2025-11-21 04:40:00.1239+05:30", Some("2025-11-20T23:10:00.123Z"));
        check("2025-11-21t04:40:00-0800", Some("2025-11-21T12:40:00Z"));
        check("2025-11-21T04:40", Some("2025-11-21T04:40:00Z"));
        check("2025-11-21T04:40:00+02", Some("2025-11-21T02:40:00Z"));
        check("2024-02-29T23:59:60Z", Some("2024-03-01T00:00:00Z"));
        check("2025-02-29T00:00:00Z", None);
        check("2025-13-01T00:00:00Z", None);
        check("2025-11-21T24:00:00Z", None);
        check("2025-11-21T04:40:00.Z", None);
        check("2025-11-21T04:40:00ZZ", None);
        check("2025-11-21", None);
        check("", None);
        check("２025-11-21T04:40:00Z", None);
        check("9999-12-31T23:59:59Z", None);
    }
}
