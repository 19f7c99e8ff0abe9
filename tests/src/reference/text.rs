//! Times and texts of the reference: RFC 3339 both ways, and `like`.

/// Days from 1970-01-01 to a date, by counting years and months.
#[must_use]
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let years: i64 = if year >= 1970 {
        (1970..year).map(|year| 365 + i64::from(leap(year))).sum()
    } else {
        -(year..1970).map(|year| 365 + i64::from(leap(year))).sum::<i64>()
    };
    let months: i64 = (1..month).map(|month| month_length(month, leap(year))).sum();
    years + months + day - 1
}

fn month_length(month: i64, leap: bool) -> i64 {
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The date of a day since 1970-01-01.
#[must_use]
pub fn date(day: i64) -> (i64, i64, i64) {
    let mut year = 1970 + day.div_euclid(366);
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= day {
        month += 1;
    }
    (year, month, day - days(year, month, 1) + 1)
}

/// Reads RFC 3339: any offset, a space for `T`, no offset means UTC. Milliseconds, rounded down.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(part).ok()?.parse().ok())?
    };
    let is = |at: usize, accepted: &[u8]| bytes.get(at).is_some_and(|byte| accepted.contains(byte));
    let punctuated = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    if !punctuated {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let valid = (1..=12).contains(&month) && (1..=month_length(month, leap)).contains(&day) && hour < 24 && minute < 60;
    if !valid || second > 59 {
        return None;
    }
    let (millis, rest) = fraction(text.get(19..)?)?;
    let offset = offset(rest)?;
    Some((((days(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second) * 1_000 + millis)
}

/// Milliseconds of `.123456`, and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let count = rest.bytes().take_while(u8::is_ascii_digit).count();
    let digits: String = rest[..count].chars().chain("000".chars()).take(3).collect();
    if count == 0 { None } else { Some((digits.parse().ok()?, &rest[count..])) }
}

/// Minutes of `Z`, `+01:30`, or nothing.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = match text.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<i64>().ok())?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// SQL's `like`: `%` is any text, `_` one character.
#[must_use]
pub fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|from| like(&text[from..], rest)),
        Some(('_', rest)) => !text.is_empty() && like(&text[1..], rest),
        Some((letter, rest)) => text.first() == Some(letter) && like(&text[1..], rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_time(text), expected, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-01 00:00:01", Some(1_000));
        check("2000-02-29T00:00:00.0509Z", Some(951_782_400_050));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("2025-11-21T06:40:00+02:00", Some(1_763_700_000_000));
        check("2025-11-21T04:40:00-00:30", Some(1_763_700_000_000 + 30 * 60_000));
        check("2025-02-29T00:00:00Z", None);
        check("2025-13-01T00:00:00Z", None);
        check("2025-01-01T24:00:00Z", None);
        check("2025-01-01", None);
        check("yesterday", None);
        check("2025-01-01T00:00:00.Z", None);
    }

    #[test]
    fn dates_come_back() {
        for day in (-800_000..800_000).step_by(997) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn like_knows_two_wildcards() {
        let check = |text: &str, pattern: &str, expected: bool| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(like(&chars(text), &chars(pattern)), expected, "{text} like {pattern}");
        };
        check("prod_1", "prod%", true);
        check("prod_1", "%1", true);
        check("é", "_", true);
        check("", "%", true);
        check("", "_", false);
        check("abc", "a%c%", true);
        check("abc", "a_", false);
    }
}
