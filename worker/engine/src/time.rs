//! Event time: UTC milliseconds since 1970, as Kafka counts them. There is no way to ask for "now" here.

/// A point in time, in UTC milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// The watermark of a source that has ended: later than every event.
pub const END_OF_TIME: Millis = i64::MAX;

/// The watermark of a source that has shown nothing yet: earlier than every event.
pub const BEGINNING_OF_TIME: Millis = i64::MIN;

/// Latest event time that is accepted: 9999-01-01T00:00:00Z, the last year RFC 3339 can write.
pub const TIME_MAX: Millis = 253_370_764_800_000;

/// Returns the start of the window of length `size` that holds `time`, aligned to 1970.
///
/// `size` is positive. Negative times are aligned downwards as well.
#[must_use]
pub fn window_start(time: Millis, size: Millis) -> Millis {
    time - time.rem_euclid(size)
}

/// Writes `time` as RFC 3339 in UTC; milliseconds appear only when they are not zero.
///
/// Times outside the years 0000 to 9999 are written as the nearest bound.
pub fn write_rfc3339(time: Millis, out: &mut Vec<u8>) {
    let time = time.clamp(-62_167_219_200_000, 253_402_300_799_999);
    let (year, month, day) = civil_from_days(time.div_euclid(86_400_000));
    let ms_of_day = time.rem_euclid(86_400_000);
    let two = |v: i64| [b'0' + (v / 10) as u8, b'0' + (v % 10) as u8];
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year % 100));
    out.push(b'-');
    out.extend_from_slice(&two(month));
    out.push(b'-');
    out.extend_from_slice(&two(day));
    out.push(b'T');
    out.extend_from_slice(&two(ms_of_day / 3_600_000));
    out.push(b':');
    out.extend_from_slice(&two(ms_of_day / 60_000 % 60));
    out.push(b':');
    out.extend_from_slice(&two(ms_of_day / 1_000 % 60));
    let ms = ms_of_day % 1_000;
    if ms != 0 {
        out.push(b'.');
        out.push(b'0' + (ms / 100) as u8);
        out.extend_from_slice(&two(ms % 100));
    }
    out.push(b'Z');
}

/// Returns year, month and day of a count of days since 1970-01-01.
///
/// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Returns the days since 1970-01-01 of a date; the inverse of [`civil_from_days`].
#[must_use]
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns `time` as an RFC 3339 string; see [`write_rfc3339`].
#[must_use]
pub fn rfc3339(time: Millis) -> String {
    let mut out = Vec::with_capacity(24);
    write_rfc3339(time, &mut out);
    String::from_utf8(out).expect("only ASCII was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_field_writes_them() {
        let check = |time: Millis, text: &str| assert_eq!(rfc3339(time), text);
        check(0, "1970-01-01T00:00:00Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00Z");
        check(1_763_700_000_050, "2025-11-21T04:40:00.050Z");
        check(TIME_MAX, "9999-01-01T00:00:00Z");
    }

    #[test]
    fn windows_are_aligned_below_zero_too() {
        assert_eq!(window_start(59_999, 60_000), 0);
        assert_eq!(window_start(-1, 60_000), -60_000);
    }
}
